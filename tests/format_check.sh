#!/bin/bash
# Fails if clang-format would change a C++ file; says which, and how to mend it.
set -euo pipefail
cd "$(dirname "$0")/.."

mapfile -t files < <(find config spool ingest sink daemon tests bench -name '*.[ch]pp' | sort)
[ ${#files[@]} -gt 0 ] || {
  echo "no C++ files found" >&2
  exit 1
}
wrong=$(clang-format --dry-run -Werror "${files[@]}" 2>&1 | sed -n 's/^\([^: ]*\):[0-9].* error: .*/\1/p' | sort -u)
[ -z "$wrong" ] && exit 0
echo "not formatted as .clang-format says (mend with clang-format -i):"
echo "$wrong"
exit 1
