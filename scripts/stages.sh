# Sourced by scripts/check and scripts/test: stages with a title and a time; the first that fails ends the run.

stage() { # TITLE COMMAND [ARGUMENT...]
    local title="$1" began="$SECONDS" output status=0
    shift
    output="$(mktemp)"
    set +e # not "|| status=$?", which would switch off the function's own set -e as well
    (set -e; "$@") >"$output" 2>&1
    status=$?
    set -e
    if [ "$status" -eq 0 ]; then
        printf '%-58s ok %4d s\n' "$title" $((SECONDS - began))
    else
        printf '%-58s FAILED\n\n' "$title"
        cat "$output"
        printf '\n%s: failed at "%s" (exit %d): %s\n' "$0" "$title" "$status" "$*" >&2
    fi
    rm -f "$output"
    [ "$status" -eq 0 ] || exit 1
}
