"""What SQL may name: functions, pragmas and virtual tables known to reach nothing but the database they run in."""

from __future__ import annotations

import re
from typing import Final

RESERVED: Final = "__memoturn_"
"""Tables, indexes, triggers and views of this name hold our models; SQL of users reaches none of them."""

READ_PRAGMAS: Final = frozenset(
    "application_id auto_vacuum collation_list compile_options data_version database_list defer_foreign_keys "  # noqa: SIM905
    "encoding foreign_key_check foreign_key_list foreign_keys freelist_count function_list index_info "
    "index_list index_xinfo integrity_check journal_mode module_list page_count page_size pragma_list "
    "quick_check schema_version table_info table_list table_xinfo user_version".split()
)
VALUE_PRAGMAS: Final = frozenset(
    "application_id foreign_key_check foreign_key_list index_info index_list index_xinfo "  # noqa: SIM905
    "integrity_check quick_check table_info table_list table_xinfo user_version".split()
)
"""These take a value: what to write, or the name of a table or an index."""
CHECKING_PRAGMAS: Final = frozenset(("integrity_check", "quick_check"))
OWN_PRAGMAS: Final = frozenset(("secure_delete",))
"""These are for statements of our own."""
WRITE_PRAGMAS: Final = frozenset(("defer_foreign_keys", "incremental_vacuum", "optimize"))

FUNCTIONS: Final = frozenset(
    "-> ->> "  # noqa: SIM905
    # https://sqlite.org/lang_corefunc.html
    "abs changes char coalesce concat concat_ws format glob hex if ifnull iif instr last_insert_rowid length "
    "like likelihood likely lower ltrim max min nullif octet_length printf quote random randomblob replace "
    "round rtrim sign soundex sqlite_compileoption_get sqlite_compileoption_used sqlite_source_id sqlite_version "
    "substr substring subtype total_changes trim typeof unhex unicode unistr unistr_quote unlikely upper zeroblob "
    "match regexp "
    # https://sqlite.org/lang_datefunc.html
    "current_date current_time current_timestamp date datetime julianday strftime time timediff unixepoch "
    # https://sqlite.org/lang_aggfunc.html, https://sqlite.org/windowfunctions.html
    "avg count group_concat median percentile percentile_cont percentile_disc string_agg sum total cume_dist "
    "dense_rank first_value lag last_value lead nth_value ntile percent_rank rank row_number "
    # https://sqlite.org/lang_mathfunc.html
    "acos acosh asin asinh atan atan2 atanh ceil ceiling cos cosh degrees exp floor ln log log10 log2 mod pi pow "
    "power radians sin sinh sqrt tan tanh trunc "
    # https://sqlite.org/json1.html
    "json json_array json_array_insert json_array_length json_error_position json_extract json_group_array "
    "json_group_object json_insert json_object json_patch json_pretty json_quote json_remove json_replace "
    "json_set json_type json_valid jsonb jsonb_array jsonb_array_insert jsonb_extract jsonb_group_array "
    "jsonb_group_object jsonb_insert jsonb_object jsonb_patch jsonb_remove jsonb_replace jsonb_set "
    # https://sqlite.org/fts5.html, https://sqlite.org/fts3.html
    "bm25 fts5_get_locale fts5_locale fts5_source_id highlight matchinfo offsets optimize snippet "
    # https://sqlite.org/rtree.html, https://sqlite.org/geopoly.html
    "geopoly_area geopoly_bbox geopoly_blob geopoly_ccw geopoly_contains_point geopoly_group_bbox geopoly_json "
    "geopoly_overlap geopoly_regular geopoly_svg geopoly_within geopoly_xform rtreecheck "
    # https://alexgarcia.xyz/sqlite-vec/api-reference.html
    "vec_add vec_bit vec_distance_cosine vec_distance_hamming vec_distance_l1 vec_distance_l2 vec_f32 vec_int8 "
    "vec_length vec_normalize vec_quantize_binary vec_quantize_int8 vec_slice vec_sub vec_to_json vec_type "
    "vec_version "
    # What ALTER TABLE calls on its own behalf. SQLite knows no such functions in a statement of a user.
    "sqlite_add_constraint sqlite_drop_column sqlite_drop_constraint sqlite_fail sqlite_find_constraint "
    "sqlite_rename_column sqlite_rename_quotefix sqlite_rename_table sqlite_rename_test".split()
)
OWN_FUNCTIONS: Final = "memoturn_"
"""Functions of this name are for statements of our own."""

COSTLY_FUNCTIONS: Final = frozenset(
    "highlight json_patch jsonb_patch match matchinfo offsets snippet".split()  # noqa: SIM905
)
"""These take SQLite more time than in proportion to their input: statements that use them get shorter values."""
is_patching: Final = re.compile(r"\bjsonb?_patch\b", re.IGNORECASE).search

MODULES: Final = frozenset(("fts3", "fts4", "fts5", "fts5vocab", "geopoly", "rtree", "rtree_i32", "vec0"))
"""Virtual tables that can be created."""
TABLE_FUNCTIONS: Final = frozenset(("generate_series", "json_each", "json_tree", "jsonb_each", "jsonb_tree"))
REFUSED_TABLE_FUNCTIONS: Final = frozenset(
    ("bytecode", "carray", "dbstat", "sqlite_dbpage", "sqlite_stmt", "tables_used", "vec_npy_each")
)
"""Refused by name, because SQLite may add them to the list of its modules only once they are used."""

is_shadow_name: Final = re.compile(
    r"(.+)_(?:data|idx|content|docsize|config|segments|segdir|stat|node|rowid|parent"
    r"|info|chunks|rowids|auxiliary|(?:vector_|metadata)chunks\d+|metadatatext\d+)",
    re.IGNORECASE | re.DOTALL,
).fullmatch
"""Matches what may be a table in which a virtual one keeps its content; its first group is the virtual one then."""


def is_reserved(name: str | None) -> bool:
    """Whether a table, an index, a trigger or a view is ours."""
    if name is None:
        return False
    return name.lower().removeprefix("sqlite_autoindex_").startswith(RESERVED)
