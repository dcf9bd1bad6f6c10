SELECT mrl.trim_changes()
