#!/bin/sh
# Write requirements/ci.lock: every package that tests and linters need, at one version, with its hashes, for all platforms.
# PyTorch and its CUDA libraries are left out: which build is right depends on the machine, and a CPU build has another hash
# than the index's. tools/setup.sh installs PyTorch first, by itself, at the version that the lock was made for.
set -eu
UV=${UV:-uv}
OUT=requirements/ci.lock
compile() {
    "$UV" pip compile --quiet pyproject.toml --extra dev --constraint requirements/torch.txt --generate-hashes \
        --python-version 3.11 --universal --no-emit-index-url --no-emit-find-links --no-header --no-annotate "$@"
}
skip=$(compile | sed -nE 's/^((torch|triton|nvidia|cuda)[a-z0-9-]*)==.*/--no-emit-package \1/p')
# shellcheck disable=SC2086 (words of options)
{
    echo "# Written by tools/lock.sh (make lock); tools/setup.sh installs it where LOCKED=1."
    compile $skip
} > "$OUT.new"
mv "$OUT.new" "$OUT"
