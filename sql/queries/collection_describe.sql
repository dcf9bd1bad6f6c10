SELECT mrl.describe(%s)
