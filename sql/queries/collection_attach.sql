SELECT mrl.attach(
    %(relation)s::oid::regclass, name => %(name)s, vector => %(vector)s, key => %(key)s, dims => %(dims)s,
    shortlist_dims => %(shortlist_dims)s, nesting_dims => %(nesting_dims)s, metric => %(metric)s, low_dim => %(low_dim)s
)
