SELECT cascade_ FROM mrl.classifier WHERE collection = %s AND name = %s
