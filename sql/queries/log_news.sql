SELECT mrl.news(%s, %s, %s)
