INSERT INTO mrl.migration (version, name, checksum) VALUES (%s, %s, %s)
