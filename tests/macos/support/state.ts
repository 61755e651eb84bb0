/**
 * Where the stand-in keeps what pf and launchd keep, and how all that a lock may touch is shown.
 *
 * @module
 */

/** The models' own directory. */
export const STATE = "/var/lib/pf-stand-in";

/** How many references there are, not which: a token is never the same again. */
export const STATE_SCRIPT = `{
  pfctl -s info; pfctl -s rules; pfctl -s nat; pfctl -s dummynet
  pfctl -s References | grep -c pfctl
  cd ${STATE}
  for f in anchors/*; do if test -s $f; then echo $f; cat $f; fi; done; ls jobs; cat tables
  for f in /etc/pf.conf* /etc/pf.anchors/* /var/db/* /var/db/*/* /Library/LaunchDaemons/*; do
    if test -e $f; then stat -c "%n %A %u:%g" $f; fi
    case $f in *.token) ;; *) if test -f $f; then cat $f; fi;; esac
  done
} 2>/dev/null`;
