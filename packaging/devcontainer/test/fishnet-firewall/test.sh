#!/bin/bash
# `devcontainer features test` runs this in a container that has the feature, as the user of
# the image. Where the container may not change the network, the report has to say so.
set -e
# shellcheck source=/dev/null # the tool puts it beside this file
source dev-container-features-test-lib

check "the program is there" fishnet --version
check "the plan is shown" bash -c "fishnet firewall enable --agent-user agent_runner | grep 'dry-run'"
check "the report is there" grep -E '^(locked|not locked): ' /run/fishnet-firewall/report
reportResults
