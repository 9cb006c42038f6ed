#!/usr/bin/env bash
# Build the image and run the tests inside it: with Docker where its engine answers, else with buildah, which needs none.
#
#   BASE         the base image; for buildah the default is a minimal Debian made here by debootstrap
#   BUILD_FLAGS  more flags for the build, such as "--build-arg PIP_INDEX_URL=..." or "--volume /wheels:/wheels:ro"
#   TESTS        what pytest is given (everything by default)
#   WORK         where buildah and debootstrap keep what they make (a folder under /var/tmp)
set -euo pipefail
cd "$(dirname "$0")/.."

tag=fcn-test
version=$(git describe --always --abbrev=12 --dirty=+changes 2>/dev/null || echo unknown)
read -ra flags <<<"${BUILD_FLAGS:-}"
read -ra tests <<<"${TESTS:-}"

if docker info >/dev/null 2>&1; then
    docker build --target test --tag "$tag" --build-arg VERSION="$version" \
        ${BASE:+--build-arg BASE="$BASE"} "${flags[@]}" .
    docker run --rm "$tag" python docker/welcome.py
    docker run --rm "$tag" python -m pytest "${tests[@]}"
    exit
fi

for program in buildah debootstrap; do
    if ! command -v "$program" >/dev/null; then
        echo "image-test.sh: no Docker engine answers, and there is no $program: install Docker, or both buildah and debootstrap." >&2
        exit 1
    fi
done
work=${WORK:-/var/tmp/fcn-image-test}
mkdir -p "$work"
# The vfs driver and chroot isolation ask nothing of the kernel, so that this works inside a container too.
build() { buildah --storage-driver vfs --root "$work/storage" --runroot "$work/run" "$@"; }

if [ -z "${BASE:-}" ]; then
    BASE=localhost/fcn-base
    if ! build inspect --type image "$BASE" >/dev/null 2>&1; then
        [ -e "$work/base/usr/bin/python3" ] ||
            debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$work/base"
        # A machine behind a proxy of its own trusts certificates that Debian does not have.
        cp -L /etc/ssl/certs/ca-certificates.crt "$work/base/etc/ssl/certs/ca-certificates.crt"
        container=$(build from scratch)
        build add --quiet "$container" "$work/base" /
        build commit --quiet --rm "$container" "$BASE"
    fi
fi

# What pip is told by the environment here it is told inside.
for name in PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS; do
    if [ -n "${!name:-}" ]; then flags+=(--build-arg "$name=${!name}"); fi
done
build build --isolation chroot --target test --tag "$tag" --build-arg BASE="$BASE" --build-arg VERSION="$version" \
    "${flags[@]}" .
container=$(build from "$tag")
trap 'build rm "$container" >/dev/null' EXIT
# A container's own name has an address under Docker alone, and torchrun looks it up.
inside() { build run --isolation chroot --hostname localhost "$container" -- "$@"; }
inside python docker/welcome.py
inside python -m pytest "${tests[@]}"
