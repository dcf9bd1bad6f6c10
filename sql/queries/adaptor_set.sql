SELECT mrl.set_adaptor(%s, %s)
