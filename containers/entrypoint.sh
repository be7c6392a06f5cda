#!/bin/sh
# What an image runs: its one stage. -P: from the image's code, whatever lies in the folder it is called from.
exec python3 -P -m "ghosttrack.stages.$GHOSTTRACK_STAGE" "$@"
