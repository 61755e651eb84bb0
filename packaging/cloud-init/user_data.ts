/**
 * Writes a cloud-init configuration for a machine whose agent is locked in
 * before it runs for the first time, from the key of the apt repository:
 * `deno run --allow-env packaging/cloud-init/user_data.ts < fishnet.asc > user-data.yml`
 *
 * @module
 */
import { type Project, projectHere } from "../project.ts";

/** The configuration, in YAML; the account is `agent_runner`. */
export function userData({ site }: Project, key: string): string {
  const indented = key.trim().split("\n").map((line) => `        ${line}`.trimEnd()).join("\n");
  return `#cloud-config
apt:
  sources:
    fishnet:
      source: deb [signed-by=$KEY_FILE] ${site}/apt stable main
      key: |
${indented}

packages: [fishnet]

users:
  - default
  - name: agent_runner
    shell: /bin/bash
    lock_passwd: true

# Where the lock cannot be made or is not whole, the machine stops: an agent must not run free.
runcmd:
  - |
      fishnet firewall enable --agent-user agent_runner --persist --apply &&
        fishnet firewall status --agent-user agent_runner || poweroff
`;
}

if (import.meta.main) {
  const key = await new Response(Deno.stdin.readable).text();
  await Deno.stdout.write(new TextEncoder().encode(userData(projectHere(), key)));
}
