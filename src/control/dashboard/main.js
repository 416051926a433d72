/** The page: follows control, draws its snapshots, and sends it actions. */
import { call, follow, hasToken, openQueues, Refused, setToken, takeTokenFromAddress } from "./api.js";
import { throughput } from "./charts.js";
import { fill, h } from "./dom.js";
import { clock } from "./format.js";
import * as views from "./views.js";

const MAX_SAMPLES = 600;
const RETRY_MS = 3000;

const $ = (id) => document.getElementById(id);
/** The page's data. */
const state = { fleet: null, samples: [], rejects: null };

// --- Drawing --------------------------------------------------------------------------------

function draw(fleet) {
  const before = state.fleet;
  state.fleet = fleet;
  fill($("place"), h("span", {}, "fleet ", h("strong", {}, fleet.fleet)), h("span", { class: "store" }, fleet.store));
  fill($("alerts"), views.alerts(fleet));
  fill($("tiles"), views.tiles(fleet));
  fill($("runs"), views.activeRuns(fleet));
  fill($("rate"), throughput(state.samples));
  fill($("stages"), views.stages(fleet));
  fill($("workers"), views.workers(fleet));
  fill($("lengths"), views.lengths(fleet));
  fill($("queues"), views.queues(fleet));
  fill($("schedules"), views.schedules(fleet));
  fill($("past"), views.pastRuns(fleet));
  fill(
    $("rejects-run"),
    fleet.runs.map(({ run, rejects }) => h("option", { value: run, "data-key": run }, `${run} (${rejects})`)),
  );
  fill($("version"), `embedfleet ${fleet.version}`);
  document.title = titleOf(fleet);
  if (before !== null) announce(whatChanged(before, fleet));
}

function titleOf(fleet) {
  const [run] = fleet.runs.filter(({ isActive }) => isActive);
  if (run === undefined || run.plannedTokens === 0) return "embedfleet";
  return `${Math.floor((100 * run.realTokens) / run.plannedTokens)} % · ${run.run} · embedfleet`;
}

/** Announces events to screen readers, but not figures that change all the time. */
function announce(sentences) {
  if (sentences.length > 0) $("announce").textContent = sentences.join(" ");
}

function whatChanged(before, after) {
  const states = new Map(before.runs.map(({ run, state }) => [run, state]));
  const runs = after.runs.filter(({ run, state }) => states.get(run) !== state);
  const gone = before.workers.length - after.workers.length;
  return [
    ...runs.map(({ run, state }) => `Run ${run} is ${state === "planning" ? "being planned" : state}.`),
    ...(gone > 0 ? [`${views.plural(gone, "worker")} left.`] : []),
    ...(gone < 0 ? [`${views.plural(-gone, "worker")} joined.`] : []),
    ...(before.problems.length === 0 && after.problems.length > 0 ? [after.problems[0]] : []),
  ];
}

// --- Following ------------------------------------------------------------------------------

function showLink(kind, text) {
  $("link").dataset.state = kind;
  fill($("link-text"), text);
}

async function keepFollowing() {
  for (;;) {
    try {
      showLink("connecting", "connecting");
      state.samples = await (await call("api/samples")).json();
      await follow((fleet) => {
        state.samples.push({
          at: fleet.at,
          tokensPerSecond: Object.fromEntries(
            fleet.workers.map(({ name, tokensPerSecond }) => [name, tokensPerSecond]),
          ),
        });
        state.samples = state.samples.slice(-MAX_SAMPLES);
        draw(fleet);
        showLink("live", `live, ${clock(fleet.at)}`);
      });
      throw new Error("control closed the connection");
    } catch (error) {
      if (error instanceof Refused) {
        showLink("lost", "locked");
        setToken(null);
        showUnlocked();
        await askForToken();
        continue;
      }
      showLink("lost", "not connected; retrying");
      announce(["The connection to control was lost."]);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

// --- Acting ---------------------------------------------------------------------------------

/** @returns Whether there is a token now. */
async function askForToken() {
  const dialog = $("token-dialog");
  if (!dialog.open) dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  const token = $("token-input").value.trim();
  $("token-input").value = "";
  if (dialog.returnValue === "unlock" && token !== "") setToken(token);
  dialog.returnValue = "";
  showUnlocked();
  return hasToken();
}

function showUnlocked() {
  const text = hasToken() ? "Lock actions" : "Unlock actions";
  if ($("unlock").textContent !== text) $("unlock").textContent = text;
  openQueues().catch(() => {});
}

const QUESTIONS = {
  accept: (run) => [
    `Seal ${run} although it is held?`,
    "More documents were rejected, or removed from the corpus, than its limits allow. Readers of the latest run lose the rows of the removed documents.",
    "Accept the run",
  ],
  cancel: (run) => [
    `Cancel ${run}?`,
    "Its waiting jobs are removed from the queue. Its results are kept, but it can never continue: its corpus would need a new run.",
    "Cancel the run",
  ],
  trigger: (name) => [`Run ${name} now?`, "The schedule starts a run at once, as if it were due.", "Run now"],
};

async function confirmed(name, of) {
  if (!(name in QUESTIONS)) return true;
  const [title, text, yes] = QUESTIONS[name](of);
  fill($("confirm-title"), title);
  fill($("confirm-text"), text);
  fill($("confirm-yes"), yes);
  const dialog = $("confirm-dialog");
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  return dialog.returnValue === "yes";
}

const DONE = {
  resume: (of, { queued, done, planned }) =>
    `${of}: ${done} of ${planned} shards are done, ${queued} are queued again.`,
  accept: (of, { accepted }) => (accepted ? `${of} is accepted and will be sealed.` : `${of} was not held.`),
  cancel: (of, { removed }) => `${of} is cancelled; ${views.plural(removed, "waiting job")} removed from the queue.`,
  trigger: (of, { run }) => `${of} starts run ${run}.`,
};

async function act(button) {
  const { action: name, of } = button.dataset;
  if (!hasToken() && !(await askForToken())) return;
  if (!(await confirmed(name, of))) return;
  const path =
    name === "trigger"
      ? `api/schedules/${encodeURIComponent(of)}/trigger`
      : `api/runs/${encodeURIComponent(of)}/${name}`;
  try {
    const outcome = await (await call(path, { method: "POST" })).json();
    notify("good", DONE[name](of, outcome));
  } catch (error) {
    if (error instanceof Refused) setToken(null);
    showUnlocked();
    notify("bad", error.message);
  }
}

function notify(kind, text) {
  document.querySelector(".toast")?.remove();
  const toast = h("div", { class: `toast ${kind}` }, h("p", { role: kind === "bad" ? "alert" : "status" }, text));
  const close = h("button", { type: "button", class: "quiet" }, "Dismiss");
  close.addEventListener("click", () => toast.remove());
  toast.append(close);
  document.body.append(toast);
}

async function showRejects(after) {
  const run = $("rejects-run").value;
  if (run === "") return;
  try {
    const page = await (await call(`api/runs/${encodeURIComponent(run)}/rejects?after=${after}`)).json();
    fill($("rejects"), views.rejects(page));
    $("rejects-more").hidden = page.next === null;
    $("rejects-more").dataset.after = page.next ?? "";
    announce([`${views.plural(page.rejects.length, "reject")} of run ${run}.`]);
  } catch (error) {
    notify("bad", error.message);
  }
}

// --- Looks ----------------------------------------------------------------------------------

const THEME_KEY = "embedfleet-theme";
const prefersDark = matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  const chosen = localStorage.getItem(THEME_KEY);
  return chosen === null ? prefersDark.matches : chosen === "dark";
}

function showTheme() {
  document.documentElement.dataset.theme = isDark() ? "dark" : "light";
  $("theme").textContent = isDark() ? "Light" : "Dark";
  $("theme").setAttribute("aria-label", `Use the ${isDark() ? "light" : "dark"} theme`);
}

// --- Start ----------------------------------------------------------------------------------

takeTokenFromAddress();
showTheme();
showUnlocked();
prefersDark.addEventListener("change", showTheme);
$("theme").addEventListener("click", () => {
  localStorage.setItem(THEME_KEY, isDark() ? "light" : "dark");
  showTheme();
});
$("unlock").addEventListener("click", () => {
  if (hasToken()) {
    setToken(null);
    showUnlocked();
  } else void askForToken();
});
$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  $("token-dialog").close("unlock");
});
$("token-cancel").addEventListener("click", () => $("token-dialog").close("back"));
$("rejects-form").addEventListener("submit", (event) => {
  event.preventDefault();
  void showRejects(0);
});
$("rejects-more").addEventListener("click", () => void showRejects(Number($("rejects-more").dataset.after)));
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-action]");
  if (button !== null) void act(button);
});
void keepFollowing();
