/**
 * State of a queue's jobs in a Redis that may have lost or damaged a part of them. A job counts as held only if a worker
 * will get it: a hash that is in no list is as lost as a missing one.
 *
 * The scripts depend on the keys of the installed BullMQ version. They are scripts because others pull, complete and
 * repair at the same time: a job is judged and removed in one atomic step.
 */
import type { Redis } from "ioredis";
import { messageOf } from "../../core/errors.ts";

/**
 * - `queued`: will be handed to a worker; also a dead worker's jobs, until the check for stalled jobs.
 * - `active`: a worker has its lease.
 * - `failed`: stays until someone asks for a retry.
 * - `lost`: no worker will ever get it.
 */
export type JobState = "queued" | "active" | "failed" | "lost";

/** Jobs to remove: none, remains of lost ones, also failed ones, or all that are not active. */
export type Sweep = "look" | "lost" | "finished" | "all";

/** States of the jobs, and the queue's own keys that were unusable and have been removed. */
export interface Swept {
  readonly states: readonly JobState[];
  readonly repaired: readonly string[];
}

/** Longest plausible delay: ours are half a minute at most, and a later due time comes from a wrong clock. */
const MAX_DELAY_MS = 600_000;
/** Longest plausible lease. */
const MAX_LOCK_MS = 86_400_000;

/** Key types that BullMQ expects; a key of another type makes each of its scripts fail, whatever the job. */
const REPAIR = `
local base = KEYS[1]
local function typeOf(key) return redis.call('TYPE', key)['ok'] end
local kinds = { wait = 'list', active = 'list', paused = 'list', prioritized = 'zset', delayed = 'zset',
  completed = 'zset', failed = 'zset', ['waiting-children'] = 'zset', marker = 'zset', ['repeat'] = 'zset',
  stalled = 'set', events = 'stream', meta = 'hash', pc = 'string', id = 'string', limiter = 'string',
  ['stalled-check'] = 'string' }
local repaired = {}
for name, kind in pairs(kinds) do
  local key = base .. name
  local found = typeOf(key)
  local isBad = found ~= 'none' and found ~= kind
  if not isBad and found == 'string' and (name == 'pc' or name == 'id') then
    local count = redis.call('GET', key)
    isBad = not string.match(count, '^%d+$') or #count > 15
  end
  -- It is there while nobody may check for stalled jobs; without an end nobody ever would.
  if not isBad and found == 'string' and name == 'stalled-check' then isBad = redis.call('PTTL', key) < 0 end
  if isBad then
    redis.call('DEL', key)
    table.insert(repaired, name)
  end
end
`;

const SWEEP = `${REPAIR}
local sweep, maxDelayMs, maxLockMs = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local clock = redis.call('TIME')
local latest = (tonumber(clock[1]) * 1000 + maxDelayMs) * 0x1000
local function membersOf(name)
  local members = {}
  for _, id in ipairs(redis.call('LRANGE', base .. name, 0, -1)) do members[id] = true end
  return members
end
local lists = { wait = membersOf('wait'), active = membersOf('active'), paused = membersOf('paused') }
-- Only those that hold something: most jobs are new, and each would be asked to go from everywhere.
local sets = {}
for _, name in ipairs({ 'prioritized', 'delayed', 'completed', 'failed', 'waiting-children' }) do
  if redis.call('ZCARD', base .. name) > 0 then table.insert(sets, name) end
end
local hasStalled = redis.call('SCARD', base .. 'stalled') > 0

local function decodes(text)
  local ok, value = pcall(cjson.decode, text)
  return ok and type(value) == 'table' and value or nil
end
local function isSound(id, fields)
  local data = decodes(fields[1])
  if not data or tostring(data.run) .. '-' .. tostring(data.shard) ~= id then return false end
  if fields[2] and not decodes(fields[2]) then return false end
  for i = 3, 5 do if fields[i] and not string.match(fields[i], '^%d+$') then return false end end
  return true
end
local function isHeld(id)
  if lists.wait[id] or lists.active[id] or redis.call('ZSCORE', base .. 'prioritized', id) then return true end
  local due = redis.call('ZSCORE', base .. 'delayed', id)
  return due and tonumber(due) <= latest
end
local function stateOf(id)
  local key = base .. id
  if redis.call('EXISTS', key, key .. ':lock') == 0 then return 'lost' end
  local kind, lock = typeOf(key), typeOf(key .. ':lock')
  if kind ~= 'none' and kind ~= 'hash' then return 'lost' end
  local fields = kind == 'hash' and redis.call('HMGET', key, 'data', 'opts', 'ats', 'atm', 'stc') or {}
  if fields[1] and not isSound(id, fields) then return 'lost' end
  if lock ~= 'none' then
    local lockMs = lock == 'string' and redis.call('PTTL', key .. ':lock') or -1
    return lockMs >= 0 and lockMs <= maxLockMs and 'active' or 'lost'
  end
  if not fields[1] then return 'lost' end
  if isHeld(id) then return 'queued' end
  return redis.call('ZSCORE', base .. 'failed', id) and 'failed' or 'lost'
end
local function remove(id)
  local key = base .. id
  for _, name in ipairs(sets) do redis.call('ZREM', base .. name, id) end
  for name, members in pairs(lists) do if members[id] then redis.call('LREM', base .. name, 0, id) end end
  if hasStalled then redis.call('SREM', base .. 'stalled', id) end
  redis.call('DEL', key, key .. ':lock', key .. ':logs', key .. ':dependencies', key .. ':processed', key .. ':failed',
    key .. ':unsuccessful')
end

local removes = { look = {}, lost = { lost = true }, finished = { lost = true, failed = true },
  all = { lost = true, failed = true, queued = true } }
local states = {}
for i = 4, #ARGV do
  local state = stateOf(ARGV[i])
  if removes[sweep][state] then remove(ARGV[i]) end
  table.insert(states, state)
end
return { states, repaired }
`;

/** Judges the jobs in one atomic step and removes those that `sweep` selects. States are in the order of the jobs. */
export async function sweepJobs(
  redis: Redis,
  params: Readonly<{ base: string; ids: readonly string[]; sweep: Sweep }>,
): Promise<Swept> {
  const { base, ids, sweep } = params;
  const [states, repaired] = (await redis.eval(SWEEP, 1, base, sweep, MAX_DELAY_MS, MAX_LOCK_MS, ...ids)) as [
    JobState[],
    string[],
  ];
  return { states, repaired };
}

/** Removes the queue's own keys that are unusable: the lost information is in the store. @returns Their names. */
export async function repairKeys(redis: Redis, base: string): Promise<string[]> {
  return (await redis.eval(`${REPAIR} return repaired`, 1, base)) as string[];
}

/** Whether an error of the server, or one caused by its answer, shows that a key is not what BullMQ has written. */
export function isDamage(error: unknown): boolean {
  if (error instanceof SyntaxError) return true;
  return /WRONGTYPE|not an integer|would overflow|not a valid float|Lua redis lib command arguments/.test(
    messageOf(error),
  );
}
