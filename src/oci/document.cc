#include "oci/document.h"

#include <algorithm>
#include <string>
#include <vector>

#include "base/utf8.h"

namespace caisson::oci {
namespace {

// "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error while parsing value - invalid literal" -> the part after
// the position: line and column are given in our own words.
std::string syntax_problem(std::string what) {
  size_t at = what.find("column ");
  if (at != std::string::npos && (at = what.find(": ", at)) != std::string::npos) what.erase(0, at + 2);
  return excerpt(what, 200);
}

// Builds the tree; stops at the first thing that is refused. nlohmann's SAX parser does not recurse, so neither do we.
class Builder : public nlohmann::json_sax<Json> {
 public:
  Builder(std::string_view text, std::string_view name) : text_(text), name_(name) {}

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return check_string(value) && add(std::move(value)); }
  bool binary(binary_t&) override { return refuse("binary values are not JSON"); }

  bool start_object(std::size_t) override { return open(Json::object()); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    if (!check_string(name)) return false;
    key_ = std::move(name);
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& problem) override {
    // position counts what was read, of which the last byte is the one that did not fit.
    std::string_view before = text_.substr(0, std::min(position == 0 ? 0 : position - 1, text_.size()));
    size_t line = static_cast<size_t>(std::count(before.begin(), before.end(), '\n')) + 1;
    size_t newline = before.rfind('\n');
    size_t column = (newline == std::string_view::npos ? before.size() : before.size() - newline - 1) + 1;
    return refuse(fmt::format("line {}, column {}: {}", line, column, syntax_problem(problem.what())));
  }

  Result<Json> take() {
    if (!problem_.empty()) return make_error(EINVAL, "{}: {}", name_, problem_);
    return std::move(root_);
  }

 private:
  bool refuse(std::string problem) {
    if (problem_.empty()) problem_ = std::move(problem);
    return false;
  }

  bool check_string(const std::string& value) {
    if (value.find('\0') == std::string::npos) return true;
    return refuse(fmt::format("the string \"{}\" has a NUL character, which nothing on Linux accepts", excerpt(value)));
  }

  bool add(Json value) { return place(std::move(value)) != nullptr; }

  Json* place(Json value) {
    if (++values_ > kMaxDocumentValues) {
      refuse(fmt::format("more than {} values", kMaxDocumentValues));
      return nullptr;
    }
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    Json& member = parent[key_];
    member = std::move(value);
    return &member;
  }

  bool open(Json value) {
    if (open_.size() >= kMaxDocumentDepth) return refuse(fmt::format("nested deeper than {} levels", kMaxDocumentDepth));
    Json* placed = place(std::move(value));
    if (placed) open_.push_back(placed);
    return placed != nullptr;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  std::string_view text_, name_;
  Json root_;
  std::vector<Json*> open_;  // from the root to the innermost; a container grows only while it is the last one, so none of them moves
  std::string key_;
  size_t values_ = 0;
  std::string problem_;
};

}  // namespace

Result<Json> parse_document(std::string_view text, std::string_view name) {
  if (text.size() > kMaxDocumentBytes) return make_error(EINVAL, "{}: is longer than {} MiB", name, kMaxDocumentBytes >> 20);
  // The library takes a NUL byte for the end of the text.
  if (text.find('\0') != text.npos) return make_error(EINVAL, "{}: has a NUL byte, which is not JSON", name);
  Builder builder(text, name);
  Json::sax_parse(text.begin(), text.end(), &builder, nlohmann::detail::input_format_t::json, true);
  return builder.take();
}

std::string excerpt(std::string_view text, size_t limit) {
  std::string shorter(text.size() <= limit ? std::string(text)
                                           : fmt::format("{}...{}", text.substr(0, limit / 2), text.substr(text.size() - limit / 4)));
  std::string shown;
  for (std::string_view rest = shorter; !rest.empty();) {
    size_t length = utf8_sequence(rest);
    auto byte = static_cast<unsigned char>(rest[0]);
    bool c1 = length == 2 && byte == 0xc2 && static_cast<unsigned char>(rest[1]) < 0xa0;  // U+0080 to U+009F, which terminals obey too
    if (length == 0 || byte < 0x20 || byte == 0x7f || c1) {
      shown += '?';
    } else {
      shown += rest.substr(0, length);
    }
    rest.remove_prefix(std::max<size_t>(length, 1));
  }
  return shown;
}

}  // namespace caisson::oci
