#!/bin/bash
# A producer for sluice with bash and nc (OpenBSD's): sends the lines of a file, or of stdin, until the daemon
# says that each is stored. It may be interrupted and run again: under the same name it goes on behind what
# the daemon has, and nothing is stored twice.
#
#   sluice-producer.sh SOCKET NAME [FILE]
#
# NAME stands for this sequence of lines: the same lines, the same name; other lines, another name. Stdin is
# read to its end first. Exit code: 0 if every line is stored, 65 if some were refused (their numbers and
# codes are on stderr), 69 if for 30 seconds (SLUICE_PATIENCE) no daemon answered, had room or took anything.
set -euo pipefail
export LC_ALL=C # lines are bytes

if [ $# -lt 2 ] || [[ ! $2 =~ ^[A-Za-z0-9._:@-]{1,200}$ ]]; then
  echo "usage: $0 SOCKET NAME [FILE]    NAME: letters, digits and ._:@-" >&2
  exit 64
fi
socket=$1
name=$2
patience=${SLUICE_PATIENCE:-30}
idle=$((patience > 0 ? patience : 1)) # seconds without a byte either way, before a connection is given up

file=${3:-}
if [ -z "$file" ]; then
  file=$(mktemp)
  trap 'rm -f "$file"' EXIT
  cat >"$file"
fi
lines=$(awk 'END { print NR }' "$file")

hello() { # FIRST: the number of the line that follows
  printf '{"sluice":1,"ack":"durable","producer":"%s","first":%d}\n' "$name" "$1"
}

member() { # NAME LINE: the number that the member has, or nothing
  [[ $2 =~ \"$1\":([0-9]+) ]] && echo "${BASH_REMATCH[1]}" || true
}

# The last line that the daemon has, or nothing if nobody answers.
ask_have() {
  local answer
  answer=$(hello 1 | nc -N -w "$idle" -U "$socket" 2>/dev/null | head -n 1) || true
  member have "$answer"
}

# Everything behind line $have over one connection; $done_with moves as acks come.
send_the_rest() {
  local answer line
  while read -r answer; do
    case $answer in
      *'"retry":true'*) return ;; # no room: nothing behind that line is taken on this connection
      '{"nack":'*)
        line=$((have + $(member nack "$answer")))
        refused=65
        [ "$line" -gt "$told" ] || continue # in a try before this one
        told=$line
        [[ $answer =~ \"code\":\"([^\"]*)\" ]] && echo "$file:$line: refused: ${BASH_REMATCH[1]}" >&2
        ;;
      '{"nacks_unsent":'*)
        echo "$file: $(member nacks_unsent "$answer") more lines refused" >&2
        refused=65
        ;;
      '{"ack":'*) done_with=$((have + $(member ack "$answer"))) ;;
      '{"done":'*) done_with=$((have + $(member done "$answer"))) ;;
    esac
  done < <({
    hello $((have + 1))
    # What is added to the file meanwhile is another run's. A last line without a newline gets one.
    awk -v have="$have" -v lines="$lines" 'NR > lines { exit } NR > have' "$file"
  } | nc -N -w "$idle" -U "$socket" 2>/dev/null)
}

done_with=0
refused=0
told=0 # lines up to this one that were refused are on stderr
SECONDS=0
while [ "$done_with" -lt "$lines" ]; do
  have=$(ask_have)
  if [ -n "$have" ]; then
    before=$done_with
    done_with=$((have > done_with ? have : done_with))
    [ "$have" -ge "$lines" ] || send_the_rest
    [ "$done_with" -le "$before" ] || SECONDS=0
  fi
  [ "$done_with" -lt "$lines" ] || break
  if [ "$SECONDS" -ge "$patience" ]; then
    echo "$0: no daemon answers or has room at $socket: $done_with of $lines lines are done with" >&2
    exit 69
  fi
  sleep 0.5
done
if [ "$done_with" -gt "$lines" ]; then
  echo "$0: the daemon has $done_with lines of $name and there are only $lines: another NAME for other lines" >&2
  exit 65
fi
exit "$refused"
