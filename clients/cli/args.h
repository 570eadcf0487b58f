/* Command-line arguments from tables: one table of options feeds the parser, the help texts and the
 * shell completions, so that the three cannot drift apart. */
#ifndef JUMUN_CLI_ARGS_H
#define JUMUN_CLI_ARGS_H

#include <stdbool.h>
#include <stddef.h>

enum { ARGS_OPTIONS_MAX = 40, ARGS_VALUES_MAX = 4096 };

struct args_option {
    const char *name;          /* without the dashes; NULL ends a table */
    char letter;               /* 0 = none */
    const char *argument;      /* "FILE"; NULL = a flag */
    const char *help;
    const char *words;         /* "a|b|c" or "@file": what a shell completes; NULL = nothing */
};

struct args_given { const struct args_option *option; char *value; };

struct args {
    struct args_given given[ARGS_VALUES_MAX];
    size_t given_count;
    char **positionals;        /* into argv */
    int positionals_count;
};

/* Parses argv[1..argc) against up to three tables (NULL entries are skipped). With
 * `stop_at_first`, the first word that is no option ends the parsing and begins the positionals;
 * else options may stand anywhere before "--". A long name may be cut short where it stays clear,
 * and what begins like a number below 0 (-17) is a word, not an option. argv is permuted. False
 * with a sentence. */
bool args_parse(struct args *args, int argc, char **argv, const struct args_option *const tables[3],
                bool stop_at_first, char *error, size_t error_bytes);

/* A flag and an option with a value may have the same name (a command's own one hides a global
 * flag, which keeps its letter): each is asked for by its own function. */
bool args_flag(const struct args *args, const char *name);
/* The value given last; NULL if absent. */
char *args_value(const struct args *args, const char *name);
/* Walks the values of an option that may repeat: *cursor starts at 0; NULL at the end. */
char *args_next(const struct args *args, const char *name, size_t *cursor);

#endif
