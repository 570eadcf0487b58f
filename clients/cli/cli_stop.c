#include "clients/cli/cli_stop.h"

#include <signal.h>
#include <stddef.h>
#include <stdio.h>

static volatile sig_atomic_t stop_signal;

static void stop_note(int number) { stop_signal = number; }

void cli_stop_catch(void) {
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        struct sigaction action = {.sa_handler = stop_note, .sa_flags = (int)SA_RESETHAND}, now;
        /* nohup means it. */
        if (sigaction(numbers[i], NULL, &now) == 0 && now.sa_handler != SIG_IGN)
            sigaction(numbers[i], &action, NULL);
    }
}

bool cli_stop_asked(void) { return stop_signal != 0; }

void cli_stop_obey(void) {
    if (stop_signal == 0) return;
    fflush(NULL);
    signal(stop_signal, SIG_DFL);
    raise(stop_signal);
}
