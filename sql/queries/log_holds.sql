SELECT EXISTS (SELECT FROM mrl.reader WHERE id = %s AND token = %s)
