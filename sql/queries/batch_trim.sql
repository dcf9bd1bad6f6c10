SELECT mrl.trim_batches()
