#!/usr/bin/env node
import { tellStayDown } from "../../workers/supervisor.ts";
import { mayRestart } from "../../workers/verdict.ts";
import { runCommand } from "./run-command.ts";

process.exitCode = await runCommand(process.argv, (error) => {
  if (!mayRestart(error)) tellStayDown();
});
