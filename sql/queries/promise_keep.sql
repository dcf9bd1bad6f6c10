SELECT mrl.keep_promise(%s, %s, %s, %s)
