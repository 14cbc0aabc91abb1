#include "host/dbus.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <optional>

#include "base/text.h"
#include "host/files.h"

namespace caisson::host {
namespace {

constexpr size_t kHeader = 16, kLargest = 1 << 20;
enum Field : uint8_t { kPath = 1, kInterface = 2, kMember = 3, kErrorName = 4, kReplySerial = 5, kDestination = 6, kSignature = 8 };

size_t aligned(size_t at, size_t to) { return (at + to - 1) / to * to; }

// Reads values from bytes that somebody else has made: past the end everything is an error.
class Reader {
 public:
  Reader(std::string_view bytes, size_t at) : bytes_(bytes), at_(at) {}
  bool align(size_t to) {
    at_ = aligned(at_, to);
    return at_ <= bytes_.size();
  }
  std::optional<uint8_t> byte() {
    if (at_ >= bytes_.size()) return std::nullopt;
    return static_cast<uint8_t>(bytes_[at_++]);
  }
  std::optional<uint32_t> u32() {
    if (!align(4) || bytes_.size() - at_ < 4) return std::nullopt;
    uint32_t value;
    memcpy(&value, bytes_.data() + at_, 4);
    at_ += 4;
    return value;
  }
  std::optional<std::string> text() {
    const std::optional<uint32_t> size = u32();
    return size ? take(*size) : std::nullopt;
  }
  std::optional<std::string> signature() {
    const std::optional<uint8_t> size = byte();
    return size ? take(*size) : std::nullopt;
  }
  size_t at() const { return at_; }

 private:
  std::optional<std::string> take(size_t size) {
    if (bytes_.size() - at_ < size + 1) return std::nullopt;
    std::string value(bytes_.substr(at_, size));
    at_ += size + 1;
    return value;
  }
  std::string_view bytes_;
  size_t at_;
};

bool read_field(Reader& reader, DbusMessage& message) {
  if (!reader.align(8)) return false;
  const std::optional<uint8_t> field = reader.byte();
  const std::optional<std::string> type = reader.signature();
  if (!field || !type) return false;
  if (*type == "u") {
    const std::optional<uint32_t> value = reader.u32();
    if (value && *field == kReplySerial) message.reply_to = *value;
    return value.has_value();
  }
  const std::optional<std::string> value = *type == "g" ? reader.signature() : *type == "s" || *type == "o" ? reader.text() : std::nullopt;
  if (!value) return false;
  if (*field == kMember) message.member = *value;
  if (*field == kErrorName) message.error = *value;
  if (*field == kSignature) message.signature = *value;
  return true;
}

uint32_t u32_at(const std::string& bytes, size_t at) {
  uint32_t value;
  memcpy(&value, bytes.data() + at, 4);
  return value;
}

void write_field(DbusWriter& writer, Field field, const char* type, std::string_view value) {
  writer.align(8);
  writer.byte(field);
  writer.signature(type);
  if (*type == 'g')
    writer.signature(value);
  else
    writer.text(value);
}

}  // namespace

void DbusWriter::align(size_t to) { bytes_.resize(aligned(bytes_.size(), to)); }
void DbusWriter::byte(uint8_t value) { bytes_.push_back(static_cast<char>(value)); }
void DbusWriter::u32(uint32_t value) {
  align(4);
  bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
}
void DbusWriter::u64(uint64_t value) {
  align(8);
  bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
}
void DbusWriter::text(std::string_view value) {
  u32(static_cast<uint32_t>(value.size()));
  bytes_.append(value).push_back('\0');
}
void DbusWriter::signature(std::string_view value) {
  byte(static_cast<uint8_t>(value.size()));
  bytes_.append(value).push_back('\0');
}
size_t DbusWriter::open_array(size_t element_alignment) {
  u32(0);
  const size_t length_at = bytes_.size() - 4;
  align(element_alignment);
  open_.emplace_back(length_at, bytes_.size());
  return open_.size() - 1;
}
void DbusWriter::close_array(size_t opened) {
  const auto [length_at, begin] = open_[opened];
  const auto length = static_cast<uint32_t>(bytes_.size() - begin);
  memcpy(bytes_.data() + length_at, &length, sizeof length);
}

void DbusProperties::text(std::string_view name, std::string_view value) {
  items_.push_back({.name = std::string(name), .type = "s", .text = std::string(value), .numbers = {}, .raw = {}});
}
void DbusProperties::boolean(std::string_view name, bool value) {
  items_.push_back({.name = std::string(name), .type = "b", .text = {}, .number = value, .numbers = {}, .raw = {}});
}
void DbusProperties::u64(std::string_view name, uint64_t value) {
  items_.push_back({.name = std::string(name), .type = "t", .text = {}, .number = value, .numbers = {}, .raw = {}});
}
void DbusProperties::u32s(std::string_view name, const std::vector<uint32_t>& values) {
  items_.push_back({.name = std::string(name), .type = "au", .text = {}, .numbers = values, .raw = {}});
}
void DbusProperties::bytes(std::string_view name, const std::vector<uint8_t>& values) {
  items_.push_back({.name = std::string(name), .type = "ay", .text = {}, .numbers = {}, .raw = values});
}

void DbusProperties::write(DbusWriter& into) const {
  const size_t all = into.open_array(8);
  for (const Item& item : items_) {
    into.align(8);
    into.text(item.name);
    into.signature(item.type);
    if (item.type == "s") into.text(item.text);
    if (item.type == "b") into.u32(static_cast<uint32_t>(item.number));
    if (item.type == "t") into.u64(item.number);
    if (item.type.size() < 2) continue;
    const size_t values = into.open_array(item.type == "au" ? 4 : 1);
    for (const uint32_t value : item.numbers) into.u32(value);
    for (const uint8_t value : item.raw) into.byte(value);
    into.close_array(values);
  }
  into.close_array(all);
}

std::vector<std::string> DbusMessage::values() const {
  std::vector<std::string> found;
  Reader reader(body, 0);
  for (const char type : signature) {
    std::optional<std::string> value;
    if (type == 'u') {
      if (const std::optional<uint32_t> number = reader.u32()) value = std::to_string(*number);
    } else if (type == 's' || type == 'o') {
      value = reader.text();
    }
    if (!value) break;
    found.push_back(std::move(*value));
  }
  return found;
}

Result<std::optional<DbusMessage>> take_dbus_message(std::string& bytes) {
  using Answer = std::optional<DbusMessage>;
  if (bytes.size() < kHeader) return Answer();
  if (bytes[0] != 'l' || bytes[3] != 1) return make_error(EPROTO, "what came is no D-Bus message of this machine's byte order");
  const size_t body = u32_at(bytes, 4), fields = u32_at(bytes, 12);
  if (body > kLargest || fields > kLargest) return make_error(EPROTO, "a D-Bus message of {} bytes is too large", body + fields);
  const size_t body_at = aligned(kHeader + fields, 8);
  if (bytes.size() < body_at + body) return Answer();
  DbusMessage message;
  message.type = static_cast<uint8_t>(bytes[1]);
  message.serial = u32_at(bytes, 8);
  Reader reader(std::string_view(bytes).substr(0, kHeader + fields), kHeader);
  while (reader.at() < kHeader + fields)
    if (!read_field(reader, message)) return make_error(EPROTO, "a D-Bus message has a malformed header");
  message.body = bytes.substr(body_at, body);
  bytes.erase(0, body_at + body);
  return Answer(std::move(message));
}

std::string dbus_call(uint32_t serial, std::string_view destination, std::string_view path, std::string_view interface,
                      std::string_view member, std::string_view signature, std::string_view body) {
  DbusWriter writer;
  writer.byte('l');
  writer.byte(DbusMessage::Call);
  writer.byte(0);  // flags
  writer.byte(1);  // the protocol's version
  writer.u32(static_cast<uint32_t>(body.size()));
  writer.u32(serial);
  const size_t fields = writer.open_array(8);
  write_field(writer, kPath, "o", path);
  write_field(writer, kDestination, "s", destination);
  write_field(writer, kInterface, "s", interface);
  write_field(writer, kMember, "s", member);
  if (!signature.empty()) write_field(writer, kSignature, "g", signature);
  writer.close_array(fields);
  writer.align(8);
  return writer.bytes() + std::string(body);
}

Result<DbusConnection> DbusConnection::connect(const std::string& socket_path, Clock::time_point deadline) {
  DbusConnection connection;
  connection.deadline_ = deadline;
  connection.socket_.reset(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!connection.socket_) return errno_error("cannot make a socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket_path.size() >= sizeof address.sun_path) return make_error(ENAMETOOLONG, "the socket's name {} is too long", socket_path);
  memcpy(address.sun_path, socket_path.data(), socket_path.size());
  if (::connect(connection.socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return errno_error("cannot connect to {}", socket_path);
  // "Authentication Protocol": who we are, by the socket's credentials; the name is our user id, each digit in hexadecimal.
  std::string who;
  for (const char digit : std::to_string(geteuid())) who += fmt::format("{:02x}", digit);
  TRY(send_with_fds(connection.socket_.get(), std::string(1, '\0') + "AUTH EXTERNAL " + who + "\r\n", {}));
  size_t end;
  while ((end = connection.received_.find("\r\n")) == std::string::npos) TRY(connection.fill());
  if (!connection.received_.starts_with("OK"))
    return make_error(EACCES, "{} does not take us for who we are: {}", socket_path, connection.received_.substr(0, end));
  connection.received_.erase(0, end + 2);
  TRY(send_with_fds(connection.socket_.get(), "BEGIN\r\n", {}));
  return connection;
}

Result<void> DbusConnection::fill() {
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline_ - Clock::now()).count();
    pollfd poller{socket_.get(), POLLIN, 0};
    const int ready = left > 0 ? poll(&poller, 1, static_cast<int>(left)) : 0;
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0) return errno_error("waiting for an answer over D-Bus");
    if (ready == 0) return make_error(ETIMEDOUT, "no answer over D-Bus in time");
    char buffer[4096];
    const ssize_t got = recv(socket_.get(), buffer, sizeof buffer, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno_error("reading an answer over D-Bus");
    if (got == 0) return make_error(ECONNRESET, "the D-Bus connection was closed by the other side");
    received_.append(buffer, static_cast<size_t>(got));
    return {};
  }
}

Result<DbusMessage> DbusConnection::next() {
  for (;;) {
    if (std::optional<DbusMessage> message = TRY(take_dbus_message(received_))) return std::move(*message);
    TRY(fill());
  }
}

Result<DbusMessage> DbusConnection::call(std::string_view destination, std::string_view path, std::string_view interface,
                                         std::string_view member, std::string_view signature, std::string_view body,
                                         std::string* error_name) {
  const uint32_t serial = ++serial_;
  TRY(send_with_fds(socket_.get(), dbus_call(serial, destination, path, interface, member, signature, body), {}));
  for (;;) {
    DbusMessage message = TRY(next());
    if (message.type == DbusMessage::Signal) signals_.push_back(std::move(message));
    if (message.reply_to != serial) continue;
    if (error_name != nullptr) *error_name = message.error;
    if (message.type == DbusMessage::Return) return message;
    const std::vector<std::string> values = message.values();
    return make_error(EIO, "{}: {}", member, values.empty() ? message.error : values.front());
  }
}

Result<DbusMessage> DbusConnection::next_signal() {
  if (!signals_.empty()) {
    DbusMessage first = std::move(signals_.front());
    signals_.erase(signals_.begin());
    return first;
  }
  for (;;) {
    DbusMessage message = TRY(next());
    if (message.type == DbusMessage::Signal) return message;
  }
}

}  // namespace caisson::host
