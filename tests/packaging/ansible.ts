/**
 * The Ansible role, run by real Ansible.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { type Result, run } from "../support/process.ts";
import { ROOT } from "./support.ts";

/** Where Ansible finds the role. */
export const ROLES = `${ROOT}packaging/ansible/roles`;

/**
 * Runs a playbook that has the role alone.
 *
 * @param within the words that put a command where it has to run
 */
export function playbook(
  folder: string,
  variables: Record<string, unknown>,
  within: readonly string[],
  ...flags: readonly string[]
): Promise<Result> {
  const play = [{ hosts: "localhost", gather_facts: false, roles: ["fishnet"], vars: variables }];
  Deno.writeTextFileSync(`${folder}/play.yml`, JSON.stringify(play));
  const ansible = ["ansible-playbook", "--inventory", "localhost,", ...flags, `${folder}/play.yml`];
  return run([...within, ...ansible], {
    env: {
      ANSIBLE_ROLES_PATH: ROLES,
      ANSIBLE_LOCAL_TEMP: `${folder}/local`,
      ANSIBLE_REMOTE_TEMP: `${folder}/remote`,
      ANSIBLE_NOCOLOR: "1",
      ANSIBLE_PIPELINING: "1", // half the time: no file for each task
      ANSIBLE_PYTHON_INTERPRETER: "/usr/bin/python3",
      LC_ALL: "C.UTF-8",
    },
  });
}

/** How many tasks of a run that had to succeed changed something, as Ansible counts them. */
export async function changes(running: Promise<Result>): Promise<number> {
  const { code, stdout, stderr } = await running;
  assertEquals(code, 0, stdout + stderr);
  return Number(/changed=(\d+)/.exec(stdout)![1]);
}

/** Variables with which Ansible takes a system beside this one for one behind ssh. */
export async function throughSsh(
  folder: string,
  enter: readonly string[],
): Promise<Record<string, unknown>> {
  const ssh = `${folder}/ssh`;
  const words = [...enter, "sh", "-c"].map((word) => `'${word}'`).join(" ");
  await Deno.writeTextFile(ssh, `#!/bin/sh\nfor last; do :; done\nexec ${words} "$last"\n`);
  await Deno.chmod(ssh, 0o755);
  return {
    ansible_connection: "ssh",
    ansible_ssh_executable: ssh,
    ansible_ssh_transfer_method: "piped",
  };
}
