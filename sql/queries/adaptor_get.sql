SELECT adaptor FROM mrl.adaptor WHERE collection = %s
