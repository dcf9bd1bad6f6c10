#!/bin/sh
# A Debian package of the extension for the PostgreSQL of PG_CONFIG: make -C csrc/postgres PG_CONFIG=/usr/bin/pg_config deb
# Writes postgresql-NN-mrl-db_VERSION_ARCH.deb into BUILD. Needs dpkg-dev beside what the extension needs.
set -eu
build=$1 pg_config=$2 source=$3
major=$("$pg_config" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$source/pyproject.toml")
name=postgresql-$major-mrl-db
root=$build/$name
rm -rf "$root"
make -C "$source/csrc/postgres" BUILD="$build" PG_CONFIG="$pg_config" DESTDIR="$root" install
strip --strip-unneeded "$root$("$pg_config" --pkglibdir)/mrl_db.so"
install -D -m 644 "$source/LICENSE" "$root/usr/share/doc/$name/copyright"

# dpkg-shlibdeps reads the name of the package where a source package has it.
mkdir -p "$build/shlibs/debian"
printf 'Source: %s\n\nPackage: %s\nArchitecture: any\n' "$name" "$name" > "$build/shlibs/debian/control"
libraries=$(cd "$build/shlibs" && dpkg-shlibdeps -O --ignore-missing-info "$root$("$pg_config" --pkglibdir)/mrl_db.so" 2> /dev/null \
    | sed 's/^shlibs:Depends=//')
mkdir -p "$root/DEBIAN"
cat > "$root/DEBIAN/control" << END
Package: $name
Version: $version
Architecture: $(dpkg --print-architecture)
Section: database
Priority: optional
Maintainer: The mrl_db developers <mrl-db@localhost>
Installed-Size: $(du -sk "$root" | cut -f1)
Depends: postgresql-$major, postgresql-$major-pgvector (>= 0.8.0), $libraries
Description: index access method mrl for vectors in PostgreSQL $major
 CREATE INDEX ... USING mrl on the types of pgvector: a graph over short
 codes in the pages of the index, distances from the table's own vectors.
 Queries stay as they are.
END
dpkg-deb --root-owner-group --build "$root" "$build"
