#!/bin/bash
# Ranks of an MPI program with prelux: examples/mpi/run.sh CONFIG RANKS COMMAND...
# mpirun starts the ranks, on other nodes, too, so prelux is what it starts. All ranks of a node share a daemon and a cache; what they open
# at once is fetched once. The runtime folder is on each node's own disk, the configuration where all nodes see it.
set -euo pipefail
config=$(readlink -f "$1")
ranks=$2
shift 2
export PRELUX_CONFIG=$config
export PRELUX_RUNTIME_DIR=${PRELUX_RUNTIME_DIR:-/tmp/prelux-$(id -u)}

# Open MPI wants to be told what to pass on (-x); MPICH and Intel MPI pass all of it.
pass=()
if mpirun --version 2>/dev/null | grep -qi 'open.*mpi'; then
  pass=(-x PRELUX_CONFIG -x PRELUX_RUNTIME_DIR)
fi
exec mpirun -n "$ranks" "${pass[@]}" prelux run -- "$@"
