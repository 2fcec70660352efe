-- What is wrong with the structure of the file and of its indexes, at most `most` rows; the single row `ok` when nothing is.
select integrity_check as message from pragma_integrity_check(%(most)s)
