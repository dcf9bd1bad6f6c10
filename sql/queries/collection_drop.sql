SELECT mrl.drop_collection(%s)
