SELECT mrl.news(%s, %s, %s, %s, %s)
