/**
 * What no rule for a uid can close on Linux, in the words that `status`, the README and the help
 * share.
 *
 * @module
 */

/** One short clause each. */
export const NOT_COVERED: readonly string[] = [
  "a socket that another account opened and handed over",
  "setuid-root programs, sudo, and groups that give root, which act as another account",
  "a relay on this machine (a DNS stub, a SOCKS or HTTP proxy), unless --only-port shuts it",
  "what services here send for whoever asks (a mail, a print job, a line of a forwarded log)",
  "its uid in another network namespace (a container that root started): this one alone is locked",
  "PPPoE and SMC sockets, where the kernel has them or can load them",
  "sockets that are not IP (Bluetooth, InfiniBand, vsock from a virtual machine to its host)",
  "answers to scans from outside: a closed port refuses, a listening one is silent",
  "subordinate uids from elsewhere than /etc/subuid (systemd-nsresourced, a subid plugin)",
  "what the kernel sends by itself when a multicast group is joined (IGMP, MLD)",
  "what is left to send, over IPv4 and bound to a device, to a neighbour who takes part in it",
];
