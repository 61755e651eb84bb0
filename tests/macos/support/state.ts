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
  modes= texts=tables
  for f in anchors/*; do if test -s $f; then texts="$texts $f"; fi; done
  for f in /etc/pf.conf* /etc/pf.anchors/* /var/db/* /var/db/*/* /Library/LaunchDaemons/*; do
    if test -e $f; then modes="$modes $f"; fi
    case $f in *.token) ;; *) if test -f $f; then texts="$texts $f"; fi;; esac
  done
  ls jobs; stat -c "%n %A %u:%g" $modes; tail -vn +1 $texts
} 2>/dev/null`;
