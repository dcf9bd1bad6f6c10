SELECT mrl.set_plan(%s, %s, %s)
