#!/usr/bin/env bash
# A single-node Slurm cluster on this machine, to test the profile:
#   profiles/slurm/loopback.sh start      (as root; needs slurm-wlm and munge: apt-get install slurm-wlm munge)
#   jointseg run examples/synthetic/config.yaml $(profiles/slurm/loopback.sh options)
#   profiles/slurm/loopback.sh stop
set -euo pipefail
readonly CONF=/etc/slurm/slurm.conf SPOOL=/var/spool/jointseg-slurm LOGS=/var/log/jointseg-slurm
readonly MARK="# Written by JointSeg's profiles/slurm/loopback.sh."

die() { echo "loopback.sh: $*" >&2; exit 1; }

check_requirements() {
  [[ $(id -u) == 0 ]] || die "starting and stopping the Slurm daemons requires root"
  for program in munged slurmctld slurmd squeue; do
    command -v "$program" >/dev/null || die "$program is not installed (Debian: apt-get install slurm-wlm munge)"
  done
  [[ ! -e $CONF ]] || grep -qF "$MARK" "$CONF" || die "$CONF was not written by this script; this machine already has a Slurm installation"
}

# Without accounting and control groups, neither systemd nor a database is required.
configure() {
  local host memory
  host=$(hostname -s)
  memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
  mkdir -p "${CONF%/*}" "$SPOOL"/{control,node} "$LOGS"
  cat > "$CONF" <<END
$MARK
ClusterName=loopback
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
StateSaveLocation=$SPOOL/control
SlurmdSpoolDir=$SPOOL/node
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmctldLogFile=$LOGS/slurmctld.log
SlurmdLogFile=$LOGS/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MailProg=/bin/true
ReturnToService=2
MinJobAge=3600
SchedulerParameters=sched_interval=1,sched_min_interval=100000,batch_sched_delay=0
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$memory State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
END
}

start() {
  check_requirements
  pgrep -x slurmctld >/dev/null && die "slurmctld is already running"
  configure
  mkdir -p /run/munge && chown munge: /run/munge
  [[ -e /etc/munge/munge.key ]] || mungekey --create
  pgrep -x munged >/dev/null || munged --force 2>/dev/null
  # -c discards the state of an earlier cluster; setsid detaches the daemons from this shell.
  setsid slurmctld -c </dev/null >/dev/null 2>&1
  setsid slurmd </dev/null >/dev/null 2>&1
  for _ in $(seq 60); do
    if sinfo -h -o %T 2>/dev/null | grep -qE '^(idle|mixed|allocated)'; then
      echo "Slurm is running on $(hostname -s) with $(nproc) CPUs; logs: $LOGS"
      return
    fi
    sleep 0.5
  done
  tail -n 5 "$LOGS"/*.log >&2
  die "the node did not start within 30 s"
}

stop() {
  check_requirements
  scancel --user=root 2>/dev/null || true
  pkill -x slurmd || true
  pkill -x slurmctld || true
  pkill -x munged || true
  for _ in $(seq 40); do
    pgrep -x slurmd >/dev/null || pgrep -x slurmctld >/dev/null || pgrep -x munged >/dev/null || break
    sleep 0.25
  done
  rm -rf "$SPOOL" "$LOGS" "$CONF"
}

# Job status by squeue, because there is no accounting; CPUs instead of GPUs; short delays; a limit on the cores of a group,
# because a group that is larger than this machine never starts.
options() {
  # --set-resources reads all words up to the next option, so that it must not be last.
  echo --profile slurm --set-resources predict:gpu=0 --slurm-no-account --slurm-status-command squeue \
    --slurm-init-seconds-before-status-checks 2 --seconds-between-status-checks 2 --latency-wait 5 --cores "$(nproc)"
}

case "${1:-}" in
  start | stop | options) "$1" ;;
  *) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
