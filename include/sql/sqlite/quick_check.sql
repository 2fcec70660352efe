-- What is wrong with the structure of the file, at most `most` rows; the single row `ok` when nothing is.
select quick_check as message from pragma_quick_check(%(most)s)
