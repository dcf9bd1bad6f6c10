SELECT mrl.check_log(%s)
