SELECT s.create_statement, s.comment_statement
FROM mrl.index_statement(%(name)s, m => %(m)s, ef_construction => %(ef_construction)s, online => %(concurrently)s) AS s
