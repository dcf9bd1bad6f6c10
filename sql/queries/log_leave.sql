DELETE FROM mrl.reader WHERE id = %s
