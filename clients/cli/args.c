#include "clients/cli/args.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

/* getopt_long returns values from here on for options without a letter. */
enum { ARGS_LONG_BASE = 1000 };

struct args_grammar {
    struct option longs[3 * ARGS_OPTIONS_MAX + 1];
    const struct args_option *options[3 * ARGS_OPTIONS_MAX];
    char shorts[3 * ARGS_OPTIONS_MAX * 2 + 4];
    int count;
};

static void args_build(struct args_grammar *g, const struct args_option *const tables[3],
                       bool stop_at_first) {
    size_t used = 0;
    memset(g, 0, sizeof *g);
    if (stop_at_first) g->shorts[used++] = '+';
    g->shorts[used++] = ':';
    for (int t = 0; t < 3; t++) {
        for (const struct args_option *o = tables[t]; o && o->name; o++) {
            g->options[g->count] = o;
            g->longs[g->count] = (struct option){
                o->name, o->argument ? required_argument : no_argument, NULL,
                ARGS_LONG_BASE + g->count};
            g->count++;
            if (!o->letter) continue;
            g->shorts[used++] = o->letter;
            if (o->argument) g->shorts[used++] = ':';
        }
    }
}

static const struct args_option *args_of_code(const struct args_grammar *g, int code) {
    if (code >= ARGS_LONG_BASE) return g->options[code - ARGS_LONG_BASE];
    for (int i = 0; i < g->count; i++) {
        if (g->options[i]->letter == code) return g->options[i];
    }
    return NULL;
}

bool args_parse(struct args *args, int argc, char **argv, const struct args_option *const tables[3],
                bool stop_at_first, char *error, size_t error_bytes) {
    struct args_grammar g;
    args_build(&g, tables, stop_at_first);
    args->given_count = 0;
    opterr = 0;
    optind = 0; /* GNU: forget what an earlier parse left behind */
    int code;
    while ((code = getopt_long(argc, argv, g.shorts, g.longs, NULL)) != -1) {
        if (code == '?' || code == ':') {
            const char *why = code == ':' ? "needs a value"
                            : optopt >= ARGS_LONG_BASE ? "takes no value"
                                                       : "is not an option here";
            char letter[3] = {'-', (char)optopt, 0};
            const char *word = argv[optind - 1];
            if (optopt > 0 && optopt < ARGS_LONG_BASE) word = letter;
            bool number = optopt >= '0' && optopt <= '9';
            snprintf(error, error_bytes, "%.80s %s%s", word, why,
                     number ? ": numbers below 0 stand behind \"--\"" : "");
            return false;
        }
        if (args->given_count == ARGS_VALUES_MAX) {
            snprintf(error, error_bytes, "more than %d options are given", ARGS_VALUES_MAX);
            return false;
        }
        args->given[args->given_count++] = (struct args_given){args_of_code(&g, code), optarg};
    }
    args->positionals = argv + optind;
    args->positionals_count = argc - optind;
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
