SELECT mrl.create_collection(
    name => %(name)s, dims => %(dims)s, shortlist_dims => %(shortlist_dims)s, nesting_dims => %(nesting_dims)s, metric => %(metric)s,
    key_type => %(key_type)s, columns => %(columns)s, schema => coalesce(%(schema)s, current_schema())
)
