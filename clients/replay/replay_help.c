/* Help, made from the table of commands. */
#include <string.h>

#include "clients/cli/help.h"
#include "clients/replay/replay.h"

static void help_exits(FILE *out) {
    help_indented("0  done, and nothing was found\n"
                  "1  faults or differences were found\n"
                  "2  wrong usage\n"
                  "3  something cannot be read, written or reached\n"
                  "4  no such order, or the log does not hold what was asked for\n"
                  "5  what is to be compared is of another cluster\n"
                  "130  stopped by a signal\n"
                  "141  who read standard output went away (head)", out);
}

void replay_print_help(const struct replay *r, const struct replay_command *c, FILE *out) {
    fprintf(out, "%sjumun-replay %s%s%s%s [OPTION]...\n%s.\n", REPLAY_STYLE(r, "1"), c->name,
            REPLAY_PLAIN(r), *c->arguments ? " " : "", c->arguments, c->summary);
    if (c->details) fprintf(out, "\n%s\n", c->details);
    if (c->options) {
        help_heading(r->color, "Options", out);
        help_options(r->color, c->options, out);
    }
    help_heading(r->color, "Global options", out);
    help_options(r->color, replay_global_options, out);
    if (c->examples) {
        help_heading(r->color, "Examples", out);
        help_indented(c->examples, out);
    }
    help_heading(r->color, "Exit status", out);
    help_exits(out);
}

void replay_print_overview(const struct replay *r, FILE *out) {
    fprintf(out, "%sjumun-replay%s [OPTION]... COMMAND SOURCE [ARGUMENT]...\n"
                 "Asks, proves and uses the event log of a Jumun order engine. SOURCE is the data "
                 "directory\nof a node (running or not), a backup, a shard's directory, a segment, "
                 "or the address of a\nlive node such as tcp://host:7400.\n",
            REPLAY_STYLE(r, "1"), REPLAY_PLAIN(r));
    help_heading(r->color, "Commands", out);
    for (const struct replay_command *c = replay_commands; c->name; c++) {
        char left[64];
        snprintf(left, sizeof left, "%s%s%s", c->name, *c->arguments ? " " : "", c->arguments);
        fprintf(out, "  %s%-28s%s  %s\n", REPLAY_STYLE(r, "36"), left, REPLAY_PLAIN(r),
                c->summary);
    }
    help_heading(r->color, "Options", out);
    help_options(r->color, replay_global_options, out);
    help_heading(r->color, "Moments", out);
    help_indented("Where a moment is asked for (--at, --from, --to): a log index (1234, or by\n"
                  "shard 0:1234,1:999), a time (2026-11-21, 2026-11-21T06:00:00.5, 06:30; local,\n"
                  "or with Z or +09:00 behind it), Unix milliseconds (12 digits or more, or\n"
                  "@MS), now, or some time ago (10m, -2h). A duration has a unit: 90s, 500ms.",
                  out);
    help_heading(r->color, "Exit status", out);
    help_exits(out);
    fputs("\nMore: jumun-replay help COMMAND, man jumun-replay\n", out);
}

int replay_help(struct replay *r) {
    const char *word = replay_word(r, 0);
    const struct replay_command *c = replay_commands;
    if (!word) {
        replay_print_overview(r, stdout);
        return REPLAY_DONE;
    }
    while (c->name && strcmp(c->name, word) != 0) c++;
    if (!c->name) return replay_usage(r, "\"%.60s\" is not a command", word);
    replay_print_help(r, c, stdout);
    return REPLAY_DONE;
}
