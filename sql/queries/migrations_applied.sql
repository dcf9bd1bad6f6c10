SELECT m.version, m.name, m.checksum FROM mrl.migration AS m ORDER BY m.version
