#!/bin/sh
# Installs gitops-agent for the current user: builds or takes the program, puts it on PATH, and sets
# the hooks in the current repository or, with --global, for all of them. Safe to repeat.
set -eu

usage() {
    cat <<'END'
Usage: install.sh [--global] [--binary FILE] [--no-modify-path]
       install.sh --uninstall [--no-modify-path]

Installs gitops-agent and the hooks of the repository in the current folder.

  --global          the hooks of every repository of this user instead
  --binary FILE     install this program instead of building it with cargo
  --no-modify-path  leave the shell's start files alone
  --uninstall       take out the hooks here and those of --global, the program and the PATH entry;
                    records stay
  --help            this text

GITOPS_AGENT_BIN_DIR names the folder for the program (default: ~/.local/bin).
END
}

say() { printf '%s\n' "$*"; }
fail() {
    printf 'install.sh: %s\n' "$*" >&2
    exit "$status"
}

status=1
global='' binary='' uninstall='' modify_path=1
while [ $# -gt 0 ]; do
    case $1 in
    --global) global=1 ;;
    --binary)
        [ $# -ge 2 ] || { status=2; fail "--binary needs a file"; }
        binary=$2
        shift
        ;;
    --binary=*) binary=${1#--binary=} ;;
    --no-modify-path) modify_path='' ;;
    --uninstall) uninstall=1 ;;
    -h | --help)
        usage
        exit 0
        ;;
    *)
        status=2
        fail "unknown argument: $1 (see --help)"
        ;;
    esac
    shift
done

[ -n "${HOME:-}" ] || { status=2; fail "HOME is not set; set it to your home folder and run this again"; }
[ -d "$HOME" ] || { status=2; fail "HOME is $HOME, which is no folder; create it and run this again"; }
folder=${GITOPS_AGENT_BIN_DIR:-$HOME/.local/bin}
case $folder in
/*) ;;
*) folder=$PWD/$folder ;;
esac
agent=$folder/gitops-agent
here=$(cd "$(dirname "$0")" && pwd)

begin='# >>> gitops-agent >>>'
end='# <<< gitops-agent <<<'
made_here='# This file was made by gitops-agent.'
start_files=".profile .bash_profile .bashrc .zprofile .zshrc"

# Prints a file without the marked block, and without the empty line that was put before it.
without_block() {
    awk -v begin="$begin" -v end="$end" '
        $0 == begin { inside = 1; held = 0; next }
        inside { if ($0 == end) inside = 0; next }
        held { print "" ; held = 0 }
        $0 == "" { held = 1; next }
        { print }
        END { if (held) print "" }
    ' "$1"
}

# Writes through to the real file, so that a linked start file stays linked and keeps its mode.
replace_text() {
    without_block "$1" >"$1.gitops-agent.$$"
    cat "$1.gitops-agent.$$" >"$1"
    rm -f "$1.gitops-agent.$$"
}

add_to_path() {
    case ":$PATH:" in
    *":$folder:"*) return 0 ;;
    esac
    quoted=$(printf '%s' "$folder" | sed "s/'/'\\\\''/g")
    for name in $start_files; do
        file=$HOME/$name
        # Only .profile is made where it is missing; a new .bash_profile would hide it.
        [ -e "$file" ] || [ "$name" = .profile ] || continue
        new=''
        if ! [ -e "$file" ]; then
            new=1
        elif grep -qxF "$begin" "$file"; then
            ! grep -qxF "$made_here" "$file" || new=1
            replace_text "$file"
            [ ! -s "$file" ] || new=''
        fi
        {
            [ -n "$new" ] || echo
            echo "$begin"
            [ -z "$new" ] || echo "$made_here"
            echo "case \":\$PATH:\" in *:'$quoted':*) ;; *) export PATH='$quoted':\"\$PATH\" ;; esac"
            echo "$end"
        } >>"$file"
    done
    say "added $folder to PATH in your shell's start files; open a new terminal, or: export PATH=\"$folder:\$PATH\""
}

remove_from_path() {
    for name in $start_files; do
        file=$HOME/$name
        if ! [ -f "$file" ] || ! grep -qxF "$begin" "$file"; then
            continue
        fi
        made=$(grep -cxF "$made_here" "$file" || :)
        replace_text "$file"
        if [ "$made" != 0 ] && ! [ -s "$file" ]; then
            rm -f "$file"
        fi
        say "removed the PATH entry from $file"
    done
}

in_repository() { command -v git >/dev/null 2>&1 && git rev-parse --git-dir >/dev/null 2>&1; }

if [ -n "$uninstall" ]; then
    if [ -x "$agent" ]; then
        # Without the program, nothing could take out the hooks for all repositories later.
        "$agent" uninstall --global || fail "the hooks were not removed, so the program stays; see above"
        if in_repository; then
            "$agent" uninstall || fail "the hooks were not removed, so the program stays; see above"
        else
            say "not inside a Git repository; hooks in other repositories stay, and do nothing without the program"
        fi
        rm -f "$agent"
        say "removed $agent"
    else
        say "$agent is not there; hooks that call it do nothing"
    fi
    [ -z "$modify_path" ] || remove_from_path
    if [ -n "${GITOPS_AGENT_HOME:-}" ]; then
        records=$GITOPS_AGENT_HOME
    elif [ "$(uname -s)" = Darwin ]; then
        records="$HOME/Library/Application Support/gitops-agent"
    else
        records=${XDG_DATA_HOME:-$HOME/.local/share}/gitops-agent
    fi
    say "your records stay in $records"
    exit 0
fi

if [ -z "$binary" ]; then
    # rustup's folder need not be on PATH yet.
    command -v cargo >/dev/null 2>&1 || PATH=$PATH:$HOME/.cargo/bin
    command -v cargo >/dev/null 2>&1 ||
        fail "cargo is missing; get it from https://rustup.rs and run this again, or pass --binary FILE"
    say "building gitops-agent with cargo (the first time takes about four minutes)"
    (cd "$here" && cargo build --release --locked -p gitops-agent) || fail "the build failed; see above"
    target=${CARGO_TARGET_DIR:-target}
    case $target in
    /*) binary=$target/release/gitops-agent ;;
    *) binary=$here/$target/release/gitops-agent ;;
    esac
fi
[ -f "$binary" ] || fail "$binary is no file"

# A new file renamed into place: a hook that runs right now keeps the old one. Read-only, because a tool
# that writes to a hook file writes through the link to the program.
mkdir -p "$folder" || fail "cannot create $folder; name another folder in GITOPS_AGENT_BIN_DIR"
temporary=$agent.$$
trap 'rm -f "$temporary"' EXIT
{ cp "$binary" "$temporary" && chmod 555 "$temporary"; } ||
    fail "cannot write to $folder; name another folder in GITOPS_AGENT_BIN_DIR"
"$temporary" --version >/dev/null 2>&1 || fail "$binary does not run on this machine"
mv -f "$temporary" "$agent"
trap - EXIT
say "installed $agent"
[ -z "$modify_path" ] || add_to_path

command -v git >/dev/null 2>&1 || fail "git is missing; install it and run this again"
if [ -n "$global" ]; then
    "$agent" install --global
elif in_repository; then
    "$agent" install
else
    say "not inside a Git repository: no hooks set; run \`gitops-agent install\` in one, or \`gitops-agent install --global\`"
fi
