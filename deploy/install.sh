#!/usr/bin/env bash
# Installs a wheel of aiperf for everybody, with an extra, and an ordinary user to run it. Run as root: in deploy/Containerfile, or on any
# Debian or Ubuntu with Python 3.11 or newer.   install.sh WHEEL [EXTRA]
set -euo pipefail
wheel=${1:?usage: install.sh WHEEL [EXTRA]}
extra=${2:+[$2]}
prefix=/opt/aiperf

python3 -m venv "$prefix"
"$prefix/bin/python" -m pip install -q --no-cache-dir --disable-pip-version-check --only-binary :all: "$(realpath "$wheel")$extra"
# On a read-only root nothing can be compiled later.
"$prefix/bin/python" -m compileall -q "$prefix/lib" || true
# Not needed to run: the installer itself, and what Ray has for other languages and its web page.
"$prefix/bin/python" -m pip uninstall -q -y pip setuptools 2>/dev/null || true
find "$prefix" -depth \( -path '*/ray/jars' -o -path '*/ray/cpp' -o -path '*/ray/dashboard/client' \) -exec rm -rf {} +
find "$prefix" -name '*.so*' -exec sh -c 'command -v strip >/dev/null && strip --strip-unneeded "$@" 2>/dev/null || true' _ {} +
for command in aiperf ray; do
  if [[ -x $prefix/bin/$command ]]; then ln -sf "$prefix/bin/$command" /usr/local/bin/; fi
done

getent passwd aiperf >/dev/null || useradd --uid 10001 --create-home --shell /usr/sbin/nologin aiperf
install -d -o aiperf -g aiperf /results
aiperf --version
