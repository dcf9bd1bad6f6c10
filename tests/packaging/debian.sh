#!/bin/sh
# Builds the Debian package inside a Debian root, installs it into that root's PostgreSQL and looks whether it works:
#
#     tests/packaging/debian.sh /path/to/root 17
#
# The root (made by debootstrap) has postgresql-NN, postgresql-server-dev-NN, postgresql-NN-pgvector, g++, make, cmake and dpkg-dev.
# For root only. Whatever package of this name was there is replaced, and purged at the end unless KEEP is set.
set -eu
root=$1 major=$2
source=$(cd "$(dirname "$0")/../.." && pwd)
work=$root/tmp/mrl_db_package
rm -rf "$work"
mkdir -p "$work/source"
cp -r "$source/CMakeLists.txt" "$source/LICENSE" "$source/csrc" "$source/pyproject.toml" "$source/sql" "$work/source"
cp "$(dirname "$0")/smoke.sql" "$work"
cat > "$work/run" << 'END'
set -eu
major=$1 bin=/usr/lib/postgresql/$1/bin work=/tmp/mrl_db_package
make -C "$work/source/csrc/postgres" -j"$(nproc)" BUILD="$work/build" PG_CONFIG="$bin/pg_config" deb > "$work/log" 2>&1 || { tail -20 "$work/log"; exit 1; }
dpkg -i "$work"/build/postgresql-"$major"-mrl-db_*.deb
chmod 755 "$work"
install -d -o postgres "$work/data" "$work/run.d"
as() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
as "$bin/initdb" -D "$work/data" -A trust > "$work/log"
as "$bin/pg_ctl" -D "$work/data" -l "$work/run.d/log" -w -o "-k $work/run.d -c listen_addresses=" start > "$work/log"
code=0
as "$bin/psql" -h "$work/run.d" -X -q -v ON_ERROR_STOP=1 -f "$work/smoke.sql" || code=$?
as "$bin/pg_ctl" -D "$work/data" -m fast -w stop > "$work/log"
[ -n "${KEEP:-}" ] || dpkg --purge "postgresql-$major-mrl-db"
exit $code
END
chroot "$root" /bin/sh /tmp/mrl_db_package/run "$major"
rm -rf "$work"
