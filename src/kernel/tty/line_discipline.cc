#include "kernel/tty/line_discipline.h"

#include <asm/termbits.h>
#include <signal.h>
#include <string.h>

#include <algorithm>
#include <utility>

namespace caisson::kernel {
namespace {

// asm/ioctls.h, TIOCPKT_*.
constexpr uint8_t kPacketFlushRead = 1, kPacketFlushWrite = 2, kPacketStop = 4, kPacketStart = 8, kPacketNoStop = 16, kPacketDoStop = 32;

bool is_continuation(uint8_t c) { return (c & 0xc0) == 0x80; }
bool is_control(uint8_t c) { return c < 0x20 || c == 0x7f; }
bool is_word(uint8_t c) { return isalnum(c) || c == '_' || c >= 0x80; }

}  // namespace

TerminalSettings TerminalSettings::usual() {
  TerminalSettings usual;
  usual.input = ICRNL | IXON;
  usual.output = OPOST | ONLCR;
  usual.control = B38400 | CS8 | CREAD;
  usual.local = ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN;
  usual.keys = {3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0};
  usual.input_speed = usual.output_speed = 38400;
  return usual;
}

bool LineDiscipline::canonical() const { return has(settings_.local, ICANON); }

// A key that is 0 is switched off.
bool LineDiscipline::is_key(int index, uint8_t c) const { return c != 0 && settings_.keys[static_cast<size_t>(index)] == c; }

// Lines count as one more than their bytes: empty ones (end-of-file keys) must not pile up either.
size_t LineDiscipline::buffered() const { return current_.size() + finished_ + lines_.size(); }

void LineDiscipline::set_settings(const TerminalSettings& settings, Effects& effects) {
  const TerminalSettings old = settings_;
  settings_ = settings;
  if (has(old.local, ICANON) && !canonical()) {
    // What has been typed can be read as it is.
    std::string all;
    for (const std::string& line : lines_) all += line;
    current_.insert(0, all);
    lines_.clear();
    finished_ = 0;
    if (!current_.empty()) effects.input = true;
  } else if (!has(old.local, ICANON) && canonical()) {
    if (!current_.empty()) finish_line();
  }
  const bool flow_was = has(old.input, IXON) && old.keys[VSTOP] == 19 && old.keys[VSTART] == 17;
  const bool flow_is = has(settings_.input, IXON) && settings_.keys[VSTOP] == 19 && settings_.keys[VSTART] == 17;
  if (flow_was != flow_is) effects.packet_status |= flow_is ? kPacketDoStop : kPacketNoStop;
  if (!has(settings_.input, IXON) && stopped_) start_output(effects);
}

size_t LineDiscipline::input(std::string_view bytes, Effects& effects) {
  size_t used = 0;
  for (const char byte : bytes) {
    // A full line that has no end yet takes more, else it could never be ended or erased; add() drops what is too much.
    if (buffered() >= kMostInput && !(canonical() && lines_.empty())) break;
    receive(static_cast<uint8_t>(byte), effects);
    ++used;
  }
  return used;
}

void LineDiscipline::receive(uint8_t c, Effects& effects) {
  if (has(settings_.input, ISTRIP)) c &= 0x7f;
  if (has(settings_.input, IUCLC) && has(settings_.local, IEXTEN)) c = static_cast<uint8_t>(tolower(c));
  if (has(settings_.local, EXTPROC)) {
    add(c, effects);
    return;
  }
  if (std::exchange(literal_next_, false)) {
    if (has(settings_.local, ECHO)) echo(c);
    add(c, effects);
    return;
  }
  if (receive_flow(c, effects) || receive_signal(c, effects)) return;
  if (c == '\r') {
    if (has(settings_.input, IGNCR)) return;
    if (has(settings_.input, ICRNL)) c = '\n';
  } else if (c == '\n' && has(settings_.input, INLCR)) {
    c = '\r';
  }
  if (canonical() && receive_editing(c, effects)) return;
  if (has(settings_.local, ECHO)) {
    if (current_.empty()) line_start_column_ = column_;
    if (c == '\n')
      echo_raw("\n");
    else
      echo(c);
  }
  if (has(settings_.input, PARMRK) && c == 0xff) add(c, effects);
  add(c, effects);
}

bool LineDiscipline::receive_flow(uint8_t c, Effects& effects) {
  if (!has(settings_.input, IXON)) return false;
  if (is_key(VSTART, c)) {
    start_output(effects);
    return true;
  }
  if (is_key(VSTOP, c)) {
    stop_output(effects);
    return true;
  }
  if (stopped_ && has(settings_.input, IXANY)) start_output(effects);
  return false;
}

bool LineDiscipline::receive_signal(uint8_t c, Effects& effects) {
  if (!has(settings_.local, ISIG)) return false;
  const int signal = is_key(VINTR, c) ? SIGINT : is_key(VQUIT, c) ? SIGQUIT : is_key(VSUSP, c) ? SIGTSTP : 0;
  if (signal == 0) return false;
  if (!has(settings_.local, NOFLSH)) {
    flush_input(effects);
    flush_output(effects);
  }
  if (stopped_ && has(settings_.input, IXON)) start_output(effects);
  if (has(settings_.local, ECHO)) {
    echo(c);
    effects.output = true;
  }
  effects.signals.push_back(static_cast<char>(signal));
  return true;
}

// Keys that have a meaning while a line is typed. False: an ordinary character.
bool LineDiscipline::receive_editing(uint8_t c, Effects& effects) {
  const bool extended = has(settings_.local, IEXTEN);
  effects.output = effects.output || has(settings_.local, ECHO);
  if (is_key(VERASE, c)) {
    erase_character();
  } else if (is_key(VKILL, c)) {
    erase_line();
  } else if (extended && is_key(VWERASE, c)) {
    erase_word();
  } else if (extended && is_key(VLNEXT, c)) {
    literal_next_ = true;
    if (has(settings_.local, ECHO) && has(settings_.local, ECHOCTL)) echo_raw("^\b");
  } else if (extended && has(settings_.local, ECHO) && is_key(VREPRINT, c)) {
    echo(c);
    echo_raw("\n");
    for (const char each : current_) echo(static_cast<uint8_t>(each));
  } else if (c == '\n') {
    if (has(settings_.local, ECHO) || has(settings_.local, ECHONL)) echo_raw("\n");
    current_.push_back('\n');
    end_line(effects);
  } else if (is_key(VEOF, c)) {
    end_line(effects);
  } else if (is_key(VEOL, c) || (extended && is_key(VEOL2, c))) {
    if (has(settings_.local, ECHO)) echo(c);
    current_.push_back(static_cast<char>(c));
    end_line(effects);
  } else {
    return false;
  }
  return true;
}

void LineDiscipline::add(uint8_t c, Effects& effects) {
  // The last place of a line is kept for its end.
  if (buffered() >= (canonical() ? kMostInput - 1 : kMostInput)) {
    if (has(settings_.input, IMAXBEL)) echo_raw("\a");
    return;
  }
  current_.push_back(static_cast<char>(c));
  if (!canonical()) effects.input = true;
  if (has(settings_.local, ECHO)) effects.output = true;
}

void LineDiscipline::finish_line() {
  finished_ += current_.size();
  lines_.push_back(std::exchange(current_, {}));
}

void LineDiscipline::end_line(Effects& effects) {
  finish_line();
  effects.input = true;
  if (has(settings_.local, ECHONL)) effects.output = true;
}

void LineDiscipline::erase_character() {
  if (current_.empty()) return;
  size_t from = current_.size() - 1;
  if (has(settings_.input, IUTF8))
    while (from > 0 && is_continuation(static_cast<uint8_t>(current_[from]))) --from;
  const std::string erased = current_.substr(from);
  current_.resize(from);
  if (!has(settings_.local, ECHO)) return;
  if (has(settings_.local, ECHOE))
    echo_erased(erased);
  else
    echo(settings_.keys[VERASE]);
}

void LineDiscipline::erase_word() {
  size_t from = current_.size();
  while (from > 0 && !is_word(static_cast<uint8_t>(current_[from - 1]))) --from;
  while (from > 0 && is_word(static_cast<uint8_t>(current_[from - 1]))) --from;
  const std::string erased = current_.substr(from);
  current_.resize(from);
  if (has(settings_.local, ECHO)) echo_erased(erased);
}

void LineDiscipline::erase_line() {
  const std::string erased = std::exchange(current_, {});
  if (!has(settings_.local, ECHO)) return;
  if (has(settings_.local, ECHOK) && has(settings_.local, ECHOKE) && has(settings_.local, ECHOE)) {
    echo_erased(erased);
    return;
  }
  echo(settings_.keys[VKILL]);
  if (has(settings_.local, ECHOK)) echo_raw("\n");
}

// How many columns text takes from column `start` on, as echo() shows it.
unsigned LineDiscipline::width_of(std::string_view text, unsigned start) const {
  unsigned column = start;
  for (const char each : text) {
    const auto c = static_cast<uint8_t>(each);
    if (c == '\t')
      column = (column | 7) + 1;
    else if (is_control(c))
      column += has(settings_.local, ECHOCTL) ? 2 : 0;
    else if (!(has(settings_.input, IUTF8) && is_continuation(c)))
      ++column;
  }
  return column - start;
}

// Takes what was just erased off the screen.
void LineDiscipline::echo_erased(std::string_view erased) {
  const unsigned start = line_start_column_ + width_of(current_, line_start_column_);
  const unsigned width = width_of(erased, start);
  const bool tabs = erased.find('\t') != erased.npos;
  for (unsigned i = 0; i < width; ++i) echo_raw(tabs ? "\b" : "\b \b");
}

void LineDiscipline::echo(uint8_t c) {
  if (has(settings_.local, ECHOCTL) && is_control(c) && c != '\t' && c != '\n') {
    const char shown[2] = {'^', static_cast<char>(c ^ 0x40)};
    echo_raw({shown, 2});
    return;
  }
  const char plain = static_cast<char>(c);
  echo_raw({&plain, 1});
}

// Echo goes through output processing. It has some room of its own, and is lost beyond that.
void LineDiscipline::echo_raw(std::string_view bytes) {
  if (output_.size() >= kMostOutput + 4096) return;
  for (const char c : bytes) process(static_cast<uint8_t>(c), output_);
}

void LineDiscipline::process(uint8_t c, std::string& to) {
  if (!has(settings_.output, OPOST)) {
    to.push_back(static_cast<char>(c));
    return;
  }
  switch (c) {
    case '\n':
      if (has(settings_.output, ONLRET)) column_ = 0;
      if (has(settings_.output, ONLCR)) {
        to += "\r\n";
        column_ = 0;
        return;
      }
      break;
    case '\r':
      if (has(settings_.output, ONOCR) && column_ == 0) return;
      if (has(settings_.output, OCRNL)) {
        to.push_back('\n');
        if (has(settings_.output, ONLRET)) column_ = 0;
        return;
      }
      column_ = 0;
      break;
    case '\t': {
      const unsigned spaces = 8 - (column_ & 7);
      column_ += spaces;
      if ((settings_.output & TABDLY) == XTABS) {
        to.append(spaces, ' ');
        return;
      }
      break;
    }
    case '\b':
      if (column_ > 0) --column_;
      break;
    default:
      if (has(settings_.output, OLCUC)) c = static_cast<uint8_t>(toupper(c));
      if (!is_control(c) && !(has(settings_.input, IUTF8) && is_continuation(c))) ++column_;
  }
  to.push_back(static_cast<char>(c));
}

size_t LineDiscipline::output(std::string_view bytes, Effects& effects) {
  size_t used = 0;
  while (used < bytes.size() && !output_full()) process(static_cast<uint8_t>(bytes[used++]), output_);
  if (used > 0) effects.output = true;
  return used;
}

void LineDiscipline::output_whole(std::string_view bytes, Effects& effects) {
  for (const char c : bytes) process(static_cast<uint8_t>(c), output_);
  effects.output = true;
}

std::string LineDiscipline::take_output(size_t most, Effects&) {
  if (stopped_) return {};
  if (most >= output_.size()) return std::exchange(output_, {});
  std::string taken = output_.substr(0, most);
  output_.erase(0, most);
  return taken;
}

size_t LineDiscipline::input_room() const {
  if (canonical() && lines_.empty()) return kMostInput;
  const size_t used = buffered();
  return used >= kMostInput ? 0 : kMostInput - used;
}

size_t LineDiscipline::readable() const {
  if (!canonical()) return current_.size();
  return lines_.empty() ? 0 : lines_.front().size();
}

bool LineDiscipline::ready(size_t wanted) const {
  if (canonical()) return !lines_.empty();
  const size_t least = settings_.keys[VTIME] != 0 ? 1 : std::max<size_t>(1, settings_.keys[VMIN]);
  return current_.size() >= std::min(least, std::max<size_t>(wanted, 1));
}

std::string LineDiscipline::read(size_t most, Effects& effects) {
  std::string taken;
  if (!canonical()) {
    taken = current_.substr(0, most);
    current_.erase(0, taken.size());
  } else if (!lines_.empty()) {
    std::string& text = lines_.front();
    taken = text.substr(0, most);
    text.erase(0, taken.size());
    finished_ -= taken.size();
    if (text.empty()) lines_.pop_front();
  }
  effects.room = true;
  return taken;
}

void LineDiscipline::put_back(std::string bytes) {
  if (bytes.empty()) return;
  if (!canonical()) {
    current_.insert(0, bytes);
    return;
  }
  finished_ += bytes.size();
  if (bytes.back() == '\n' || lines_.empty())
    lines_.push_front(std::move(bytes));
  else
    lines_.front().insert(0, bytes);
}

void LineDiscipline::flush_input(Effects& effects) {
  lines_.clear();
  finished_ = 0;
  current_.clear();
  effects.room = true;
  effects.packet_status |= kPacketFlushRead;
}

void LineDiscipline::flush_output(Effects& effects) {
  output_.clear();
  effects.output = true;
  effects.packet_status |= kPacketFlushWrite;
}

void LineDiscipline::stop_output(Effects& effects) {
  if (stopped_) return;
  stopped_ = true;
  effects.packet_status |= kPacketStop;
}

void LineDiscipline::start_output(Effects& effects) {
  if (!stopped_) return;
  stopped_ = false;
  effects.output = true;
  effects.packet_status |= kPacketStart;
}

}  // namespace caisson::kernel
