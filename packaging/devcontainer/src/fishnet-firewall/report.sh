#!/bin/sh
# Tells whoever opens the container whether its user is locked; an error where it is not.
state=/run/fishnet-firewall
cat "$state/report"
[ -e "$state/locked" ]
