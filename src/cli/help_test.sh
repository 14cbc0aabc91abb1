#!/bin/sh
# Every command that `caisson --help` lists prints its own help, and refuses an option that it does not know with one line and status 1.
caisson=$1
failed=0
fail() { echo "$*"; failed=1; }
commands=$("$caisson" --help | sed -n 's/^  \([a-z]*\)  *[A-Z].*/\1/p')
[ "$(echo "$commands" | wc -w)" -ge 19 ] || fail "caisson --help lists too few commands: $commands"
for command in $commands; do
  help=$("$caisson" "$command" --help) || fail "$command --help: status $?"
  case $help in *"Usage: caisson $command "*) ;; *) fail "$command --help: no usage line" ;; esac
  error=$("$caisson" "$command" --no-such-option 2>&1 >/dev/null)
  status=$?
  [ $status -eq 1 ] || fail "$command --no-such-option: status $status"
  case $error in "caisson: unknown option --no-such-option"*) ;; *) fail "$command --no-such-option: $error" ;; esac
done
"$caisson" --version | grep -q '^caisson version ' || fail "--version"
"$caisson" --version | grep -q '^spec: ' || fail "--version"
for shell in bash zsh fish; do [ "$("$caisson" completion $shell | wc -l)" -gt 20 ] || fail "completion $shell"; done
"$caisson" completion bash | bash -n || fail "completion bash: syntax"
exit $failed
