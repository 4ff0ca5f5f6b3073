"""What a condition may contain: the DuckDB nodes, operators and functions that are allowed."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


CLASSES = _words(
    "BETWEEN CASE CAST COLLATE COLUMN_REF COMPARISON CONJUNCTION CONSTANT FUNCTION LAMBDA OPERATOR "
    "TYPE"
)
REFUSED = {
    "SUBQUERY": "a subquery",
    "WINDOW": "a window function",
    "STAR": "a star",
    "PARAMETER": "a parameter",
}
OPERATORS = _words(
    "OPERATOR_NOT OPERATOR_IS_NULL OPERATOR_IS_NOT_NULL COMPARE_IN COMPARE_NOT_IN "
    "OPERATOR_COALESCE OPERATOR_TRY ARRAY_EXTRACT ARRAY_SLICE ARRAY_CONSTRUCTOR STRUCT_EXTRACT"
)
# Nodes and functions that always return true, false or null.
TRUTHS = _words(
    "COMPARISON BETWEEN CONJUNCTION COMPARE_IN COMPARE_NOT_IN OPERATOR_NOT OPERATOR_IS_NULL "
    "OPERATOR_IS_NOT_NULL ~~ !~~ ~~* !~~* ~~~ ^@ like_escape ilike_escape not_like_escape "
    "not_ilike_escape contains starts_with ends_with prefix suffix regexp_matches "
    "regexp_full_match list_contains list_has list_has_all list_has_any array_contains array_has "
    "array_has_all array_has_any && @> <@ json_exists json_contains json_valid isnan isinf isfinite"
)
CLOCK = _words(
    "now today current_date current_time current_timestamp localtime localtimestamp "
    "get_current_time get_current_timestamp transaction_timestamp current_localtime "
    "current_localtimestamp"
)
JSON_FUNCTIONS = _words(
    "->> json_array_length json_contains json_exists json_extract json_extract_path "
    "json_extract_path_text json_extract_string json_keys json_type json_valid json_value"
)
LIST_FUNCTIONS = _words(
    "&& @> <@ array_contains array_extract array_filter array_has array_has_all array_has_any "
    "array_position array_slice array_transform flatten list_any_value list_apply list_avg "
    "list_concat list_contains list_distinct list_element list_extract list_filter list_first "
    "list_has list_has_all list_has_any list_indexof list_intersect list_last list_max list_min "
    "list_position list_slice list_sort list_sum list_transform list_unique"
)
# Each depends only on its arguments, reads nothing else, and makes nothing large from something
# small: no settings, no sequences, no files, no `repeat`.
FUNCTIONS = (
    CLOCK
    | JSON_FUNCTIONS
    | LIST_FUNCTIONS
    | _words(
        "!= !~~ !~~* % & * ** + - / // < << <= = > >= >> ^ ^@ | || ~ ~~ ~~* ~~~ ilike_escape "
        "like_escape not_ilike_escape not_like_escape xor if ifnull nullif greatest least hash "
        "list_value list_pack array_value row typeof "
        # texts
        "ascii char_length character_length chr concat concat_ws contains damerau_levenshtein "
        "ends_with hamming instr jaccard jaro_similarity jaro_winkler_similarity lcase left len "
        "length levenshtein lower ltrim md5 nfc_normalize ord position prefix regexp_extract "
        "regexp_full_match regexp_matches regexp_replace replace reverse right rtrim sha256 "
        "split split_part starts_with str_split string_split strip_accents strlen strpos substr "
        "substring suffix translate trim ucase unicode upper "
        # numbers
        "abs acos add asin atan atan2 cbrt ceil ceiling cos degrees divide even exp fdiv floor "
        "fmod isfinite isinf isnan ln log log10 log2 mod multiply pi pow power radians round "
        "sign sin sqrt subtract tan trunc "
        # dates and times
        "age century date_add date_diff date_part date_sub date_trunc datediff datepart datesub "
        "datetrunc day dayname dayofmonth dayofweek dayofyear decade epoch epoch_ms epoch_ns "
        "epoch_us hour isodow isoyear last_day make_date make_time make_timestamp microsecond "
        "millisecond minute month monthname quarter second strftime strptime time_bucket timezone "
        "to_days to_hours to_microseconds to_milliseconds to_minutes to_months to_seconds "
        "to_timestamp to_weeks to_years try_strptime week weekday weekofyear year yearweek"
    )
)
