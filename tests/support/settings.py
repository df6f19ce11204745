"""The settings of a connection that could change what a statement means, each at its most hostile value.

A setting does not matter, or it is refused with an error that names it: `refused` is then in the
error's words. Our own connections are never refused for one of these.
"""

from dataclasses import dataclass

MYSQL, MARIADB, POSTGRESQL, SQLITE = "mysql", "mariadb", "postgresql", "sqlite"
MY = (MYSQL, MARIADB)


@dataclass(frozen=True)
class Setting:
    """What is executed on a new connection of the application, on which databases, and how that ends."""

    statement: str
    dialects: tuple[str, ...]
    refused: str = ""


def _each(dialects: tuple[str, ...], *statements: str) -> list[Setting]:
    return [Setting(statement, dialects) for statement in statements]


SETTINGS = [
    # --- MySQL and MariaDB: characters
    *_each(
        MY,
        *(f"SET NAMES {name}" for name in ("sjis", "cp932", "ujis", "eucjpms", "gbk", "big5", "latin1", "binary")),
        *(f"SET NAMES {name}" for name in ("utf8mb3", "euckr", "gb2312", "tis620", "koi8r", "ascii", "swe7")),
        "SET NAMES utf8mb4 COLLATE utf8mb4_general_ci",
        "SET character_set_client = sjis",
        "SET character_set_connection = ucs2",
        "SET character_set_client = binary, character_set_connection = utf16, sql_mode = ''",
        "SET collation_connection = utf8mb4_unicode_ci",
        "SET character_set_results = NULL",
        "SET character_set_results = latin1",
        "SET character_set_results = ucs2",
        "SET character_set_filesystem = sjis",
    ),
    *_each((MYSQL,), "SET NAMES gb18030", "SET default_collation_for_utf8mb4 = utf8mb4_general_ci"),
    # Since 11.2.
    *_each((MARIADB,), "SET @since = 1 /*M!110200 , character_set_collations = 'utf8mb4=utf8mb4_general_ci' */"),
    # --- MySQL and MariaDB: the words of sql_mode
    *_each(
        MY,
        *(
            f"SET sql_mode = '{mode}'"
            for mode in (
                "",
                "ALLOW_INVALID_DATES",
                "ANSI",
                "ANSI_QUOTES",
                "ERROR_FOR_DIVISION_BY_ZERO",
                "HIGH_NOT_PRECEDENCE",
                "IGNORE_SPACE",
                "NO_AUTO_VALUE_ON_ZERO",
                "NO_BACKSLASH_ESCAPES",
                "NO_UNSIGNED_SUBTRACTION",
                "ONLY_FULL_GROUP_BY",
                "PAD_CHAR_TO_FULL_LENGTH",
                "PIPES_AS_CONCAT",
                "REAL_AS_FLOAT",
                "STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE",
                "TRADITIONAL",
            )
        ),
    ),
    *_each((MYSQL,), "SET sql_mode = 'TIME_TRUNCATE_FRACTIONAL'"),
    *_each(
        (MARIADB,),
        *(
            f"SET sql_mode = '{mode}'"
            for mode in (
                "DB2",
                "EMPTY_STRING_IS_NULL",
                "MAXDB",
                "MSSQL",
                "MYSQL323",
                "MYSQL40",
                "ORACLE",
                "POSTGRESQL",
                "SIMULTANEOUS_ASSIGNMENT",
                "TIME_ROUND_FRACTIONAL",
            )
        ),
    ),
    # --- MySQL and MariaDB: rows
    *_each(
        MY,
        "SET sql_select_limit = 0",
        "SET sql_select_limit = 5",
        "SET sql_auto_is_null = 1",
        "SET sql_buffer_result = 1",
        "SET sql_notes = 0",
        "SET sql_warnings = 1",
        "SET sql_mode = ''; SET max_error_count = 0",
        "SET max_sort_length = 64",
        "SET group_concat_max_len = 4",
        "SET div_precision_increment = 0",
        "SET updatable_views_with_limit = NO",
        "SET auto_increment_increment = 7, auto_increment_offset = 3",
        "SET last_insert_id = 1",
        "SET timestamp = 1000000",
        "SET time_zone = '+13:00'",
        "SET lc_messages = ja_JP, lc_time_names = ja_JP",
        "SET sql_quote_show_create = 0",
        "SET session_track_schema = 1, session_track_state_change = 1, session_track_system_variables = '*'",
    ),
    Setting("SET sql_big_selects = 0, max_join_size = 1", MY, "MAX_JOIN_SIZE"),
    Setting("SET insert_id = 1", MY, "insert_id"),
    Setting("SET sql_safe_updates = 1", MY),
    *_each((MARIADB,), "SET system_versioning_asof = '2020-01-01'"),
    *_each((MARIADB,), "SET old_mode = 'UTF8_IS_UTF8MB3,ZERO_DATE_TIME_CAST,NO_PROGRESS_INFO'"),
    # --- MySQL and MariaDB: transactions and keys
    *_each(
        MY,
        "SET autocommit = 0",
        "SET completion_type = 'CHAIN'",
        "SET completion_type = 'RELEASE'",
        "SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED",
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SET foreign_key_checks = 0",
        "SET unique_checks = 0",
        "SET low_priority_updates = 1",
        "SET innodb_lock_wait_timeout = 1, lock_wait_timeout = 1",
        "SET sql_log_bin = 0",
    ),
    Setting("SET SESSION TRANSACTION READ ONLY", MY, "READ ONLY"),
    # --- MySQL and MariaDB: tables that are made
    *_each(MY, "SET default_storage_engine = MyISAM", "SET explicit_defaults_for_timestamp = 0"),
    *_each((MYSQL,), "SET sql_require_primary_key = 1", "SET sql_generate_invisible_primary_key = 1"),
    # --- MySQL and MariaDB: plans
    *_each((MYSQL,), "SET optimizer_switch = 'use_index_extensions=off,derived_merge=off,materialization=off'"),
    *_each(
        (MARIADB,), "SET optimizer_switch = 'extended_keys=off,derived_merge=off,condition_pushdown_for_derived=off'"
    ),
    # --- PostgreSQL
    *_each(
        (POSTGRESQL,),
        "SET DateStyle = 'German, DMY'",
        "SET DateStyle = 'Postgres, MDY'",
        "SET TimeZone = 'Asia/Kathmandu'",
        "SET IntervalStyle = 'sql_standard'",
        "SET timezone_abbreviations = 'Australia'",
        "SET client_encoding = 'LATIN1'",
        "SET standard_conforming_strings = off",
        "SET backslash_quote = on",
        "SET escape_string_warning = off",
        "SET bytea_output = 'escape'",
        "SET extra_float_digits = -15",
        "SET xmloption = 'document'",
        "SET array_nulls = off",
        "SET transform_null_equals = on",
        "SET quote_all_identifiers = on",
        "SET row_security = off",
        "SET session_replication_role = 'replica'",
        "SET default_transaction_isolation = 'repeatable read'",
        "SET default_transaction_isolation = 'serializable'",
        "SET default_transaction_deferrable = on",
        "SET synchronous_commit = off",
        "SET constraint_exclusion = on",
        "SET check_function_bodies = off",
        "SET exit_on_error = on",
        "SET track_activities = off",
        "SET stats_fetch_consistency = 'snapshot'",
        "SET plan_cache_mode = 'force_generic_plan'",
        "SET from_collapse_limit = 1; SET join_collapse_limit = 1; SET geqo_threshold = 2",
        "SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off",
        "SET enable_seqscan = off; SET enable_sort = off; SET enable_nestloop = off; SET enable_hashjoin = off",
        "SET cursor_tuple_fraction = 0.0001; SET work_mem = '64kB'",
        "SET max_parallel_workers_per_gather = 4; SET parallel_setup_cost = 0; SET min_parallel_table_scan_size = 0",
    ),
    *(
        Setting(f"SET client_encoding = '{encoding}'", (POSTGRESQL,), "client_encoding")
        for encoding in ("SJIS", "SHIFT_JIS_2004", "BIG5", "GBK", "UHC", "EUC_JP", "WIN1252", "SQL_ASCII")
    ),
    Setting("SET default_transaction_read_only = on", (POSTGRESQL,), "read-only"),
    # --- SQLite
    *_each(
        (SQLITE,),
        "PRAGMA case_sensitive_like = ON",
        "PRAGMA count_changes = ON",
        "PRAGMA defer_foreign_keys = ON",
        "PRAGMA empty_result_callbacks = ON",
        "PRAGMA foreign_keys = ON",
        "PRAGMA full_column_names = ON",
        "PRAGMA short_column_names = OFF",
        "PRAGMA ignore_check_constraints = ON",
        "PRAGMA journal_mode = MEMORY",
        "PRAGMA legacy_alter_table = ON",
        "PRAGMA locking_mode = EXCLUSIVE",
        "PRAGMA read_uncommitted = ON",
        "PRAGMA recursive_triggers = ON",
        "PRAGMA reverse_unordered_selects = ON",
        "PRAGMA temp_store = MEMORY",
        "PRAGMA trusted_schema = OFF",
        "PRAGMA writable_schema = ON",
        "PRAGMA automatic_index = OFF",
        "PRAGMA cell_size_check = ON",
        "PRAGMA secure_delete = ON",
    ),
    Setting("PRAGMA query_only = ON", (SQLITE,), "readonly"),
]
