#!/usr/bin/env bash
# System packages for LeanPACS.
#
#   bootstrap.sh              what tests and benchmarks want: make, venv, dcmtk, zstd, djxl, opj_decompress, Orthanc,
#                             PostgreSQL, nginx, npm and Chromium (for OHIF)
#   bootstrap.sh python       only what the virtual environment needs
#   bootstrap.sh which [P]    print a Python of 3.11 or later (P when it is one)
#
# As root on Debian or a relative of it, installs with apt-get; otherwise tells what is missing. Starts no
# service. Programs that are missing make tests skip, so only a missing Python or venv is an error.
set -euo pipefail

is_recent() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    local candidate
    for candidate in "${1:-}" python3 python3.11 python3.12 python3.13 /usr/bin/python3; do
        if [ -n "$candidate" ] && is_recent "$candidate"; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

can_make_venv() {
    local python
    python=$(find_python) && "$python" -c 'import ensurepip, venv' >/dev/null 2>&1
}

# The package that brings ensurepip is named for the minor version where python3 is not the default one.
venv_packages() {
    local python
    if python=$(find_python) && [ "$("$python" -c 'import sys; print(sys.prefix)')" = /usr ]; then
        "$python" -c 'import sys; print("python3.%d-venv" % sys.version_info[1])'
    else
        echo python3 python3-venv
    fi
}

missing_packages() {
    can_make_venv || venv_packages
    [ "$1" = python ] && return 0
    command -v make >/dev/null || echo make
    command -v storescu >/dev/null || echo dcmtk
    command -v zstd >/dev/null || echo zstd
    command -v djxl >/dev/null || echo libjxl-tools
    command -v opj_decompress >/dev/null || echo libopenjp2-tools
    command -v npm >/dev/null || echo npm
    command -v chromium >/dev/null || echo chromium
    command -v Orthanc >/dev/null || [ -x /usr/sbin/Orthanc ] || echo orthanc
    local plugin
    for plugin in DicomWeb Gdcm; do
        ls /usr/share/orthanc/plugins/libOrthanc$plugin.so* >/dev/null 2>&1 || echo "orthanc-${plugin,,}"
    done
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || echo postgresql
    command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || echo nginx-light
    return 0
}

# Debian's servers start when they are installed, and again at each boot. Keep those that are installed here, for
# tests only, from both; one that somebody runs on purpose is there already, and left alone.
# `systemctl unmask NAME` lets it be used as a service after all.
keep_stopped() {
    local name
    for name in orthanc nginx postgresql; do
        case " $* " in
        *" $name"*)
            mkdir -p /etc/systemd/system
            [ -e "/etc/systemd/system/$name.service" ] || ln -s /dev/null "/etc/systemd/system/$name.service"
            ;;
        esac
    done
}

install() {
    local policy=/usr/sbin/policy-rc.d made_policy=
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        made_policy=$policy
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    keep_stopped "$@"
    export DEBIAN_FRONTEND=noninteractive
    local status=0
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"; } >&2 || status=$?
    if [ -n "$made_policy" ]; then
        rm -f "$made_policy"
        trap - EXIT
    fi
    return "$status"
}

main() {
    local what=${1:-all}
    if [ "$what" = which ]; then
        find_python "${2:-}" || echo python3
        return
    fi
    local missing
    missing=$(missing_packages "$what" | sort -u | tr '\n' ' ')
    if [ -n "${missing// /}" ]; then
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            # Unquoted on purpose: one word for each package.
            # shellcheck disable=SC2086
            install $missing || echo "bootstrap: could not install: $missing" >&2
        else
            echo "bootstrap: missing (only root on a Debian system can install here): $missing" >&2
            echo "bootstrap: install with: apt-get install $missing" >&2
        fi
    fi
    if ! can_make_venv; then
        echo "bootstrap: no Python of 3.11 or later with venv and ensurepip" >&2
        return 1
    fi
}

main "$@"
