#include "clients/cli/args.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

struct args_reader {
    struct args *args;
    const struct args_option *const *tables;   /* three */
    char *error;
    size_t error_bytes;
};

static bool args_fault(const struct args_reader *r, const char *word, const char *why) {
    snprintf(r->error, r->error_bytes, "%.80s %s", word, why);
    return false;
}

static bool args_give(const struct args_reader *r, const struct args_option *option, char *value) {
    struct args *args = r->args;
    if (args->given_count == ARGS_VALUES_MAX) {
        snprintf(r->error, r->error_bytes, "more than %d options are given", ARGS_VALUES_MAX);
        return false;
    }
    args->given[args->given_count++] = (struct args_given){option, value};
    return true;
}

/* By its name, or by a beginning that only one has. NULL with a sentence. */
static const struct args_option *args_of_name(const struct args_reader *r, const char *word,
                                              const char *name, size_t size) {
    const struct args_option *found = NULL, *other = NULL;
    for (int t = 0; t < 3; t++) {
        for (const struct args_option *o = r->tables[t]; o && o->name; o++) {
            if (strncmp(o->name, name, size) != 0) continue;
            if (o->name[size] == 0) return o;
            if (!found) found = o;
            else if (!other && strcmp(found->name, o->name) != 0) other = o;
        }
    }
    if (other)
        snprintf(r->error, r->error_bytes, "%.80s may be --%s or --%s", word, found->name,
                 other->name);
    else if (!found) args_fault(r, word, "is not an option here");
    return other ? NULL : found;
}

static const struct args_option *args_of_letter(const struct args_reader *r, char letter) {
    for (int t = 0; t < 3; t++) {
        for (const struct args_option *o = r->tables[t]; o && o->name; o++)
            if (o->letter == letter) return o;
    }
    return NULL;
}

/* Both take `next`, which is NULL behind the last word, where the value stands apart: then
 * *used is 2. False with a sentence. */
static bool args_long(const struct args_reader *r, char *word, char *next, int *used) {
    size_t size = strcspn(word + 2, "=");
    char *value = word[2 + size] ? word + 2 + size + 1 : NULL;
    const struct args_option *o = args_of_name(r, word, word + 2, size);
    if (!o) return false;
    if (!o->argument && value) return args_fault(r, word, "takes no value");
    if (o->argument && !value) {
        value = next;
        *used = 2;
        if (!value) return args_fault(r, word, "needs a value");
    }
    return args_give(r, o, value);
}

static bool args_letters(const struct args_reader *r, char *word, char *next, int *used) {
    for (char *at = word + 1; *at; at++) {
        const struct args_option *o = args_of_letter(r, *at);
        const char letter[3] = {'-', *at, 0};
        if (!o) return args_fault(r, letter, "is not an option here");
        if (!o->argument) {
            if (!args_give(r, o, NULL)) return false;
            continue;
        }
        char *value = at[1] ? at + 1 : next;
        if (!at[1]) *used = 2;
        return value ? args_give(r, o, value) : args_fault(r, letter, "needs a value");
    }
    return true;
}

/* No option is a digit, so what begins like a number below 0 is one. */
static bool args_is_option(const char *word) {
    return word[0] == '-' && word[1] && !isdigit((unsigned char)word[1]);
}

/* argv[at .. at + count), options, go in front of the words that begin at argv[words]. */
static void args_forward(char **argv, int words, int at, int count) {
    char *moved[2] = {argv[at], count == 2 ? argv[at + 1] : NULL};
    memmove(argv + words + count, argv + words, (size_t)(at - words) * sizeof *argv);
    memcpy(argv + words, moved, (size_t)count * sizeof *argv);
}

bool args_parse(struct args *args, int argc, char **argv, const struct args_option *const tables[3],
                bool stop_at_first, char *error, size_t error_bytes) {
    const struct args_reader r = {args, tables, error, error_bytes};
    int words = 1; /* argv[words .. at) are the positionals met so far */
    bool ended = false;
    args->given_count = 0;
    for (int at = 1; at < argc && !ended;) {
        char *word = argv[at], *next = at + 1 < argc ? argv[at + 1] : NULL;
        int used = 1;
        if (!args_is_option(word)) {
            ended = stop_at_first;
            at++;
            continue;
        }
        ended = strcmp(word, "--") == 0;
        if (!ended && !(word[1] == '-' ? args_long(&r, word, next, &used)
                                       : args_letters(&r, word, next, &used)))
            return false;
        args_forward(argv, words, at, used);
        words += used;
        at += used;
    }
    args->positionals = argv + words;
    args->positionals_count = argc - words;
    return true;
}

bool args_flag(const struct args *args, const char *name) {
    for (size_t i = 0; i < args->given_count; i++) {
        const struct args_option *o = args->given[i].option;
        if (!o->argument && strcmp(o->name, name) == 0) return true;
    }
    return false;
}

char *args_next(const struct args *args, const char *name, size_t *cursor) {
    while (*cursor < args->given_count) {
        const struct args_given *g = &args->given[(*cursor)++];
        if (g->option->argument && strcmp(g->option->name, name) == 0) return g->value;
    }
    return NULL;
}

char *args_value(const struct args *args, const char *name) {
    char *last = NULL, *v;
    for (size_t cursor = 0; (v = args_next(args, name, &cursor));) last = v;
    return last;
}
